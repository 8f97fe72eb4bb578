"""An XGBoost model's values, from JSON or UBJSON: its trees are trees, and every index lies in its array.

Rules (XGBoost's model schema, doc/model.schema)
1. `learner` has a booster of a known name, an objective by name, and attributes that are texts.
2. Each tree's arrays have as many elements as it has nodes; children and split indices lie within; from the root every node is reached at most
   once (a cycle would never end a prediction, an index outside would read foreign memory).
3. Sections that newer versions add are data.
"""

from __future__ import annotations

from typing import Any, NoReturn

from vouchgate.scanning.verdict import Refuse

REMEDY = "save the model again with XGBoost (`Booster.save_model`)"
MAX_TREES = 1_000_000
_BOOSTERS = frozenset(("gbtree", "gblinear", "dart"))
_PER_NODE = ("left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left")


def check(model: Any, rule: str = "xgboost") -> dict[str, Any]:
    """The facts of a model. Raises `Refuse`."""
    return _Check(rule).model(model)


class _Check:
    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._nodes = 0

    def _refuse(self, name: str, where: str, why: str) -> NoReturn:
        raise Refuse(f"{self._rule}:{name}", where, why, REMEDY)

    def model(self, model: Any) -> dict[str, Any]:
        if not isinstance(model, dict) or not isinstance(model.get("learner"), dict):
            self._refuse("learner", "model", "it has no learner")
        learner, version = model["learner"], model.get("version")
        if not (isinstance(version, list) and len(version) == 3 and all(type(part) is int and 0 <= part < 1000 for part in version)):
            self._refuse("version", "version", "it is not three numbers")
        attributes = learner.get("attributes", {})
        if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
            self._refuse("attributes", "learner.attributes", "they are not texts by name")
        objective = learner.get("objective")
        if not isinstance(objective, dict) or not isinstance(objective.get("name"), str):
            self._refuse("objective", "learner.objective", "it has no name")
        features = self._number(learner.get("learner_model_param"), "num_feature", "learner.learner_model_param")
        booster = learner.get("gradient_booster")
        trees = self._booster(booster, features)
        return {
            "booster": booster["name"],
            "objective": objective["name"][:100],
            "trees": trees,
            "nodes": self._nodes,
            "features": features,
            "version": ".".join(map(str, version)),
        }

    def _number(self, holder: Any, name: str, where: str) -> int:
        """XGBoost writes its parameters as texts."""
        text = holder.get(name) if isinstance(holder, dict) else None
        if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 18:
            self._refuse("parameter", f"{where}.{name}", "it is no whole number")
        return int(text)

    def _booster(self, booster: Any, features: int) -> int:
        name = booster.get("name") if isinstance(booster, dict) else None
        if not isinstance(name, str) or name not in _BOOSTERS:
            self._refuse("booster", "learner.gradient_booster.name", "it is no booster that XGBoost has")
        if name == "dart":
            inner = booster.get("gbtree")
            trees = self._trees(inner.get("model") if isinstance(inner, dict) else None, features)
            self._numbers(booster.get("weight_drop"), trees, "weight_drop")
            return trees
        model = booster.get("model")
        if name == "gbtree":
            return self._trees(model, features)
        weights = model.get("weights") if isinstance(model, dict) else None
        self._numbers(weights, len(weights) if isinstance(weights, list) else 0, "weights")
        return 0

    def _numbers(self, value: Any, count: int, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) != count:
            self._refuse("array", where, f"it is no array of {count} numbers")
        if not {type(item) for item in value} <= {int, float, bool}:
            self._refuse("array", where, "it holds something other than numbers")
        return value

    def _trees(self, model: Any, features: int) -> int:
        where = "learner.gradient_booster.model"
        if not isinstance(model, dict) or not isinstance(model.get("trees"), list):
            self._refuse("trees", where, "it has no list of trees")
        trees = model["trees"]
        said = self._number(model.get("gbtree_model_param"), "num_trees", f"{where}.gbtree_model_param")
        if said != len(trees) or said > MAX_TREES:
            self._refuse("trees", where, f"it says that it has {said} trees, {len(trees)} are there")
        self._numbers(model.get("tree_info"), said, f"{where}.tree_info")
        for number, tree in enumerate(trees):
            self._tree(tree, features, f"tree {number}")
        return said

    def _tree(self, tree: Any, features: int, where: str) -> None:
        nodes = self._number(tree.get("tree_param") if isinstance(tree, dict) else None, "num_nodes", f"{where}.tree_param")
        if nodes < 1:
            self._refuse("tree", where, "it has no node")
        arrays = {name: self._numbers(tree.get(name), nodes, f"{where}.{name}") for name in _PER_NODE}
        left, right = arrays["left_children"], arrays["right_children"]
        if not all(type(index) is int for index in (*left, *right, *arrays["split_indices"])):
            self._refuse("tree", where, "one of its indices is no whole number")
        seen = bytearray(nodes)
        waiting = [0]
        while waiting:
            node = waiting.pop()
            if not 0 <= node < nodes or seen[node]:
                self._refuse("tree", where, f"node {node} lies outside the tree, or is reached twice")
            seen[node] = 1
            if left[node] == -1:
                continue
            if not 0 <= arrays["split_indices"][node] < max(features, 1):
                self._refuse("tree", where, f"node {node} splits by a feature that is not there")
            waiting += (left[node], right[node])
        self._nodes += nodes
        self._categories(tree, nodes, where)

    def _categories(self, tree: dict[str, Any], nodes: int, where: str) -> None:
        """Segments of the list of categories lie within it."""
        if "categories_nodes" not in tree:
            return
        holders = tree["categories_nodes"]
        count = len(holders) if isinstance(holders, list) else 0
        for index in self._numbers(holders, count, f"{where}.categories_nodes"):
            if not 0 <= index < nodes:
                self._refuse("tree", where, "a category belongs to a node that is not there")
        begins = self._numbers(tree.get("categories_segments"), count, f"{where}.categories_segments")
        sizes = self._numbers(tree.get("categories_sizes"), count, f"{where}.categories_sizes")
        values = tree.get("categories")
        total = len(values) if isinstance(values, list) else 0
        self._numbers(values, total, f"{where}.categories")
        if any(begin < 0 or size < 0 or begin + size > total for begin, size in zip(begins, sizes, strict=True)):
            self._refuse("tree", where, "its categories reach behind their list")
