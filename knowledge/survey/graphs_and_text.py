"""Graphs, trees of text, tokenizers, embeddings and smaller libraries: each only where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

WORDS = [["some", "words", "here"], ["other", "words", "there"]] * 10


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """By library."""
    tables = {
        "networkx": _networkx,
        "nltk": _nltk,
        "gensim": _gensim,
        "spacy": _spacy,
        "hdbscan": _hdbscan,
        "umap": _umap,
        "optuna": _optuna,
        "polars": _polars,
        "pyarrow": _pyarrow,
        "sparse": _sparse,
        "gymnasium": _gymnasium,
        "patsy": _patsy,
        "formulaic": _formulaic,
        "dateutil": _dateutil,
        "pytz": _pytz,
    }
    for library, table in tables.items():
        if importlib.util.find_spec(library) is not None:
            for label, thunk in table().items():
                yield f"{library}-{label}", thunk


def _networkx() -> dict[str, Callable[[], Any]]:
    import networkx as nx

    return {
        "graph": nx.karate_club_graph,
        "digraph": lambda: nx.gnp_random_graph(8, 0.3, directed=True, seed=1),
        "multigraph": lambda: nx.MultiGraph([(1, 2), (1, 2)]),
        "multidigraph": lambda: nx.MultiDiGraph([(1, 2)]),
        "attributes": lambda: nx.Graph([("a", "b", {"weight": 2.0})], name="g"),
        "views": lambda: [nx.path_graph(3).nodes, nx.path_graph(3).edges, nx.path_graph(3).degree, nx.path_graph(3).adj],
        "communities": lambda: nx.community.louvain_communities(nx.karate_club_graph(), seed=1),
    }


def _nltk() -> dict[str, Callable[[], Any]]:
    import nltk

    tagged = [[("the", "DT"), ("dog", "NN")], [("a", "DT"), ("cat", "NN")]] * 5
    return {
        "freqdist": lambda: nltk.FreqDist("abracadabra"),
        "conditional": lambda: nltk.ConditionalFreqDist([("a", 1), ("b", 2)]),
        "tree": lambda: nltk.Tree.fromstring("(S (NP a) (VP b))"),
        "naivebayes": lambda: nltk.NaiveBayesClassifier.train([({"a": i % 2}, i % 2) for i in range(20)]),
        "unigram": lambda: nltk.UnigramTagger(tagged, backoff=nltk.DefaultTagger("NN")),
        "bigram": lambda: nltk.BigramTagger(tagged),
        "perceptron": lambda: _perceptron(nltk, tagged),
        "stemmers": lambda: [nltk.PorterStemmer(), nltk.SnowballStemmer("english"), nltk.LancasterStemmer(), nltk.RegexpStemmer("ing$")],
        "tokenizers": lambda: [
            nltk.RegexpTokenizer(r"\w+"),
            nltk.TweetTokenizer(),
            nltk.WhitespaceTokenizer(),
            nltk.TreebankWordTokenizer(),
            nltk.WordPunctTokenizer(),
        ],
        "text": lambda: nltk.Text(["some", "words", "here", "some"]),
        "punkt": lambda: nltk.tokenize.punkt.PunktSentenceTokenizer("Some text. Here it is. Mr. A."),
        "grammar": lambda: nltk.CFG.fromstring("S -> 'a' S | 'b'"),
        "lm": _lm,
        "vader-free": lambda: nltk.BigramCollocationFinder.from_words(["a", "b", "a", "b", "c"]),
        "decisiontree": lambda: nltk.DecisionTreeClassifier.train([({"a": i % 2}, i % 2) for i in range(20)]),
        "maxent": lambda: nltk.MaxentClassifier.train([({"a": i % 2}, i % 2) for i in range(20)], max_iter=1, trace=0),
    }


def _perceptron(nltk: Any, tagged: Any) -> Any:
    tagger = nltk.PerceptronTagger(load=False)
    tagger.train(tagged)
    return tagger


def _lm() -> Any:
    from nltk.lm import MLE
    from nltk.lm.preprocessing import padded_everygram_pipeline

    model = MLE(2)
    model.fit(*padded_everygram_pipeline(2, WORDS))
    return model


def _gensim() -> dict[str, Callable[[], Any]]:
    import gensim
    from gensim import corpora, models, similarities

    dictionary = corpora.Dictionary(WORDS)
    bow = [dictionary.doc2bow(words) for words in WORDS]
    return {
        "dictionary": lambda: corpora.Dictionary(WORDS),
        "word2vec": lambda: models.Word2Vec(WORDS, min_count=1, vector_size=4, epochs=1),
        "fasttext": lambda: models.FastText(WORDS, min_count=1, vector_size=4, epochs=1, bucket=10),
        "doc2vec": lambda: models.Doc2Vec(
            [models.doc2vec.TaggedDocument(w, [i]) for i, w in enumerate(WORDS)], min_count=1, vector_size=4, epochs=1
        ),
        "keyedvectors": lambda: models.Word2Vec(WORDS, min_count=1, vector_size=4, epochs=1).wv,
        "lda": lambda: models.LdaModel(bow, id2word=dictionary, num_topics=2, random_state=1),
        "lsi": lambda: models.LsiModel(bow, id2word=dictionary, num_topics=2),
        "tfidf": lambda: models.TfidfModel(bow),
        "hdp": lambda: models.HdpModel(bow, dictionary),
        "nmf": lambda: models.Nmf(bow, id2word=dictionary, num_topics=2),
        "phrases": lambda: [models.Phrases(WORDS, min_count=1), models.Phrases(WORDS, min_count=1).freeze()],
        "similarity": lambda: similarities.MatrixSimilarity(bow, num_features=len(dictionary)),
        "okapi": lambda: models.OkapiBM25Model(bow),
        "version": lambda: gensim.__version__,
    }


def _spacy() -> dict[str, Callable[[], Any]]:
    import spacy
    from spacy.tokens import Doc, DocBin

    nlp = spacy.blank("en")
    return {
        "doc": lambda: nlp("Some words here."),
        "docs": lambda: [nlp("Some"), nlp("words")],
        "vocab": lambda: nlp.vocab,
        "nlp": lambda: nlp,
        "stringstore": lambda: nlp.vocab.strings,
        "docbin": lambda: DocBin(docs=[nlp("Some words")]).to_bytes(),
        "matcher": lambda: _matcher(nlp),
        "phrasematcher": lambda: spacy.matcher.PhraseMatcher(nlp.vocab),
        "made-doc": lambda: Doc(nlp.vocab, words=["a", "b"]),
        "vectors": lambda: nlp.vocab.vectors,
        "pipeline": _sentencizer,
    }


def _matcher(nlp: Any) -> Any:
    from spacy.matcher import Matcher

    matcher = Matcher(nlp.vocab)
    matcher.add("x", [[{"LOWER": "some"}]])
    return matcher


def _sentencizer() -> Any:
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    return nlp


def _hdbscan() -> dict[str, Callable[[], Any]]:
    import hdbscan

    data = np.random.default_rng(0).normal(size=(80, 3))
    return {
        "fitted": lambda: hdbscan.HDBSCAN(min_cluster_size=5).fit(data),
        "prediction": lambda: hdbscan.HDBSCAN(min_cluster_size=5, prediction_data=True).fit(data),
        "robust": lambda: hdbscan.RobustSingleLinkage().fit(data),
    }


def _umap() -> dict[str, Callable[[], Any]]:
    import umap

    data = np.random.default_rng(0).normal(size=(80, 5))
    return {
        "fitted": lambda: umap.UMAP(n_neighbors=5, n_epochs=5).fit(data),
        "supervised": lambda: umap.UMAP(n_neighbors=5, n_epochs=5, random_state=1).fit(data, np.arange(80) % 2),
    }


def _optuna() -> dict[str, Callable[[], Any]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def study(**given: Any) -> Any:
        made = optuna.create_study(**given)
        made.optimize(
            lambda trial: (
                trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 3) + (trial.suggest_categorical("c", ["a", "b"]) == "a")
            ),
            3,
        )
        return made

    return {
        "study": study,
        "study-random": lambda: study(sampler=optuna.samplers.RandomSampler(seed=1)),
        "study-pruner": lambda: study(pruner=optuna.pruners.MedianPruner(), direction="maximize"),
        "trials": lambda: study().trials,
        "samplers": lambda: [
            optuna.samplers.TPESampler(seed=1),
            optuna.samplers.RandomSampler(),
            optuna.samplers.GridSampler({"x": [1]}),
            optuna.samplers.CmaEsSampler(),
            optuna.samplers.NSGAIISampler(),
        ],
        "distributions": lambda: [
            optuna.distributions.FloatDistribution(0, 1),
            optuna.distributions.IntDistribution(1, 2),
            optuna.distributions.CategoricalDistribution(["a"]),
        ],
    }


def _polars() -> dict[str, Callable[[], Any]]:
    import polars as pl

    return {
        "frame": lambda: pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        "series": lambda: pl.Series("a", [1.0]),
        "dtypes": lambda: [pl.Int64, pl.Utf8, pl.List(pl.Int8), pl.Datetime("us")],
        "lazy": lambda: pl.DataFrame({"a": [1]}).lazy(),
        "expr": lambda: pl.col("a") + 1,
    }


def _pyarrow() -> dict[str, Callable[[], Any]]:
    import pyarrow as pa

    return {
        "table": lambda: pa.table({"a": [1, 2], "b": ["x", None]}),
        "array": lambda: pa.array([1, None, 3]),
        "chunked": lambda: pa.chunked_array([[1], [2]]),
        "schema": lambda: pa.schema([("a", pa.int64()), ("l", pa.list_(pa.string()))]),
        "types": lambda: [
            pa.int64(),
            pa.string(),
            pa.timestamp("us"),
            pa.list_(pa.int8()),
            pa.struct([("a", pa.int8())]),
            pa.dictionary(pa.int8(), pa.string()),
            pa.decimal128(5, 2),
        ],
        "batch": lambda: pa.record_batch({"a": [1]}),
        "scalar": lambda: pa.scalar(3),
        "buffer": lambda: pa.py_buffer(b"abc"),
    }


def _sparse() -> dict[str, Callable[[], Any]]:
    import sparse

    return {
        "coo": lambda: sparse.COO.from_numpy(np.eye(3)),
        "gcxs": lambda: sparse.GCXS.from_numpy(np.eye(3)),
        "dok": lambda: sparse.DOK.from_numpy(np.eye(3)),
    }


def _gymnasium() -> dict[str, Callable[[], Any]]:
    from gymnasium import spaces

    return {
        "spaces": lambda: [
            spaces.Box(0, 1, (3,)),
            spaces.Discrete(3),
            spaces.MultiDiscrete([2, 3]),
            spaces.MultiBinary(3),
            spaces.Dict({"a": spaces.Discrete(2)}),
            spaces.Tuple([spaces.Discrete(2)]),
            spaces.Text(5),
            spaces.Sequence(spaces.Discrete(2)),
        ],
        "sampled": lambda: _sampled(spaces.Box(-1, 1, (2,), np.float32)),
    }


def _sampled(space: Any) -> Any:
    space.seed(1)
    space.sample()
    return space


def _patsy() -> dict[str, Callable[[], Any]]:
    import patsy

    return {
        "design": lambda: np.asarray(patsy.dmatrix("x", {"x": [1.0, 2]})),
        "contrasts": lambda: [patsy.Treatment(), patsy.Sum(), patsy.Poly()],
    }


def _formulaic() -> dict[str, Callable[[], Any]]:
    import formulaic
    import pandas as pd

    return {"matrix": lambda: formulaic.model_matrix("x", pd.DataFrame({"x": [1.0, 2.0]})), "formula": lambda: formulaic.Formula("y ~ x")}


def _dateutil() -> dict[str, Callable[[], Any]]:
    from dateutil import relativedelta, rrule, tz

    return {
        "relativedelta": lambda: relativedelta.relativedelta(months=1),
        "tz": lambda: [tz.tzutc(), tz.tzoffset("X", 3600), tz.gettz("Europe/Berlin"), tz.tzlocal()],
        "weekday": lambda: relativedelta.MO(1),
        "rrule-weekday": lambda: rrule.MO,
    }


def _pytz() -> dict[str, Callable[[], Any]]:
    import pytz

    return {
        "utc": lambda: pytz.utc,
        "zones": lambda: [pytz.timezone("Europe/Berlin"), pytz.timezone("US/Eastern"), pytz.FixedOffset(60)],
        "localized": lambda: pytz.timezone("Asia/Tokyo").localize(__import__("datetime").datetime(2024, 1, 1)),
    }
