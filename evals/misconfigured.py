"""The list that `make eval-misconfig` runs: a good configuration, misconfigurations of it, and harmless edits of it.

Rules
1. The list was written from what is asked of check and drift, before anybody looked at what they can find, and is not tuned to them.
   The good configuration alone was corrected after check had named two faults of it: nothing crossed by which anything could be deployed,
   and the provider's policy did not say that it is meant for what is outside.
2. Each misconfiguration is one small change as a tired engineer makes it. `names` is what a finding must say, all of it in one finding, to
   count: the policy, group, zone, crossing, endpoint, setting or resource that is wrong. Alternatives are written `one|other`.
3. The good configuration is the pack for the AI lifecycle beside the example's server, with an identity in every group and every zone crossed.
4. Nothing of the product is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

TD = "example.local"
GROUPS = (
    "agents", "batch-callers", "callers", "evaluators", "exporters", "guests", "importers", "ingesters", "key-users", "labellers", "monitors",
    "onsite-callers", "preparers", "releasers", "signers", "tool-users", "trainers", "runners",
)  # fmt: skip
"""Those of the pack; one identity in each."""
HOMES = {
    "agents": "agents", "callers": "agents", "guests": "agents", "tool-users": "agents", "onsite-callers": "serve", "batch-callers": "serve",
    "monitors": "serve", "key-users": "serve", "evaluators": "evaluate", "ingesters": "ingest", "preparers": "prepare", "labellers": "prepare",
    "trainers": "train", "importers": "register", "releasers": "register", "signers": "register", "exporters": "register", "runners": "train",
}  # fmt: skip
"""Group -> zone of its identity."""

SITE = f"""// What this site adds to the pack.

// The provider outside is sent what is labelled for it alone.
@id("callers-may-ask-the-provider")
permit (principal in Group::"callers", action == Action::"chat", resource == Endpoint::"vg://{TD}/endpoint/provider")
when {{ resource.outside && resource.labels.contains(principal.zone) && context.risk < 40 }};

// The archive of released models is read by who evaluates.
@id("evaluators-may-read-the-archive")
permit (principal in Group::"evaluators", action == Action::"read", resource == Endpoint::"vg://{TD}/endpoint/archive")
when {{ context.risk < 40 }};
"""

SETTINGS = """trust_domain = "example.local"
data_dir = "{folder}/d"
root_dir = "{folder}/r"
solo = true

[gateway]
listen = "127.0.0.1:0"
plain_listen = "127.0.0.1:0"
egress_listen = "127.0.0.1:{egress}"

[console]
listen = ""

[limits]
api_requests_per_second = 5000

[zones.ingest]

[zones.prepare]

[zones.train]

[zones.evaluate]

[zones.register]

[zones.serve]
lease_seconds = 10

[zones.agents]
lease_seconds = 10

[zones.old]
mode = "observe"

[[policies]]
path = "{folder}/lifecycle.cedar"

[[policies]]
path = "{folder}/site.cedar"

[[endpoints]]
name = "digits"
zone = "serve"
command = ["{{python}}", "{example}/model_server.py", "--model", "{{model}}", "--name", "digits", "--fd", "{{fd}}", "--allow-uid", "{{gateway_uid}}"]
model = "{model}"
bearer = true
routes = [
  {{ method = "POST", path = "/v2/models/digits/infer", action = "infer" }},
  {{ method = "GET", path = "/v2/models/digits", action = "describe" }},
]

[[endpoints]]
name = "archive"
zone = "register"
upstream = "unix:{folder}/archive.up"
prefix = "/archive"
routes = [{{ method = "GET", path = "/models", action = "read" }}]

[[endpoints]]
name = "data"
zone = "prepare"
upstream = "unix:{folder}/data.up"
prefix = "/data"
asset = "dataset/ward"
routes = [{{ method = "GET", path = "/set", action = "read" }}]

[[endpoints]]
name = "legacy"
zone = "old"
upstream = "unix:{folder}/legacy.up"
prefix = "/legacy"
wrapped = true

[[egress]]
name = "provider"
zone = "agents"
upstream = "https://provider.example"
prefix = "/provider"
labels = ["agents"]
routes = [{{ method = "POST", path = "/v1/chat", action = "chat" }}]

[[assets]]
name = "ward"
kind = "dataset"
zones = ["prepare"]
labels = ["personal"]
purposes = ["triage"]

[[crossings]]
from = "prepare"
to = "ingest"
actions = ["read"]
kinds = ["dataset"]

[[crossings]]
from = "train"
to = "prepare"
actions = ["read", "train"]
kinds = ["dataset"]

[[crossings]]
from = "evaluate"
to = "register"
actions = ["read", "evaluate"]
kinds = ["endpoint", "model", "artifact"]

[[crossings]]
from = "serve"
to = "register"
actions = ["read"]
kinds = ["artifact", "model"]
vouches = ["scan", "structure"]

[[crossings]]
from = "register"
to = "serve"
actions = ["deploy"]
kinds = ["artifact", "model"]
vouches = ["validate", "approval"]

[[crossings]]
from = "agents"
to = "serve"
actions = ["infer", "describe", "exchange"]
vouches = ["scan", "serves@rederived"]
why = "agents ask models that were scanned and are seen to be served"

[[crossings]]
from = "agents"
to = "old"
actions = ["call"]

[[crossings]]
from = "admin"
to = "serve"
actions = ["import", "admit"]
kinds = ["artifact"]
vouches = ["scan", "structure"]
"""


def identities() -> str:
    """One in each group."""
    made = [
        f'\n[[identities]]\nname = "of-{group}"\nkind = "{"agent" if group == "agents" else "service"}"\nzone = "{HOMES[group]}"\ngroups = ["{group}"]\n'
        for group in GROUPS
    ]
    return "".join(made)


@dataclass(frozen=True)
class Text:
    """The three files of a configuration."""

    lifecycle: str
    site: str
    settings: str


Edit = Callable[[Text], Text]


@dataclass(frozen=True)
class Case:
    """One misconfiguration, or one harmless edit (without `names`)."""

    name: str
    edit: Edit
    names: tuple[str, ...] = ()

    def named(self, finding: str) -> bool:
        """Whether a finding says what is wrong."""
        return all(any(word in finding for word in one.split("|")) for one in self.names)


def swap(where: str, old: str, new: str) -> str:
    """Exactly one place."""
    if where.count(old) != 1:
        raise RuntimeError(f"`{old}` stands {where.count(old)} times")
    return where.replace(old, new)


def policy(name: str, *changes: tuple[str, str], site: bool = False) -> Edit:
    """Within one policy."""

    def edit(text: Text) -> Text:
        whole = text.site if site else text.lifecycle
        found = re.search(rf'@id\("{name}"\).*?;\n', whole, re.DOTALL)
        if found is None:
            raise RuntimeError(f"there is no policy `{name}`")
        made = found[0]
        for old, new in changes:
            made = swap(made, old, new)
        made = whole.replace(found[0], made)
        return Text(text.lifecycle, made, text.settings) if site else Text(made, text.site, text.settings)

    return edit


def lost(name: str) -> Edit:
    """A policy that is not there any more."""

    def edit(text: Text) -> Text:
        made, count = re.subn(rf'@id\("{name}"\).*?;\n', "", text.lifecycle, flags=re.DOTALL)
        if count != 1:
            raise RuntimeError(f"there is no policy `{name}`")
        return Text(made, text.site, text.settings)

    return edit


def added(words: str) -> Edit:
    """One more policy of the site's."""
    return lambda text: Text(text.lifecycle, f"{text.site}\n{words}\n", text.settings)


def settings(*changes: tuple[str, str]) -> Edit:
    """In vouchgate.toml."""

    def edit(text: Text) -> Text:
        made = text.settings
        for old, new in changes:
            made = swap(made, old, new)
        return Text(text.lifecycle, text.site, made)

    return edit


def more_settings(words: str) -> Edit:
    """At the end of vouchgate.toml."""
    return lambda text: Text(text.lifecycle, text.site, text.settings + words)


def both(*edits: Edit) -> Edit:
    """One after the other."""

    def edit(text: Text) -> Text:
        for one in edits:
            text = one(text)
        return text

    return edit


def without_crossings(text: Text) -> Text:
    """Every crossing is a comment."""
    blocks = re.split(r"(?=^\[\[)", text.settings, flags=re.MULTILINE)
    made = [re.sub(r"^", "# ", block, flags=re.MULTILINE) + "\n" if block.startswith("[[crossings]]") else block for block in blocks]
    return Text(text.lifecycle, text.site, "".join(made))


POLICIES = (
    Case("export loosened", policy("exporters-may-export", ('resource.vouches.contains("approval") && ', "")), ("exporters-may-export",)),
    Case("unless for when", policy("personal-stays", ("when {", "unless {")), ("personal-stays",)),
    Case("wildcard principal", policy("releasers-may-promote", ('principal in Group::"releasers"', "principal")), ("releasers-may-promote",)),
    Case("forbid lost", lost("only-imported-is-deployed"), ("only-imported-is-deployed",)),
    Case("risk compared the wrong way", policy("risk-ceiling", (">= 80", "<= 80")), ("risk-ceiling",)),
    Case("risk bound raised to 100", policy("callers-may-call-wrapped", ("< 60", "< 100")), ("callers-may-call-wrapped",)),
    Case("risk bound dropped", policy("signers-may-sign", (" && context.risk < 40", "")), ("signers-may-sign",)),
    Case("vouch dropped", policy("releasers-may-promote", ('"scan", "validate", "approval"', '"scan", "validate"')), ("releasers-may-promote",)),
    Case("tier weakened to declared", policy("callers-may-infer", ("serves@rederived", "serves@declared")), ("callers-may-infer",)),
    Case("zone that is not there", policy("callers-may-describe", ('Zone::"serve"', 'Zone::"serving"')), ("serving",)),
    Case("wrong zone", policy("trainers-may-train", ('Zone::"prepare"', 'Zone::"ingest"')), ("trainers-may-train",)),
    Case("scope of the resource lost", policy("labellers-may-label", (' in Zone::"prepare"', "")), ("labellers-may-label",)),
    Case("typo in a group", policy("importers-may-admit", ('Group::"importers"', 'Group::"importer"')), ('importer"|importer`',)),
    Case("typo in a vouch", policy("importers-may-admit", ('"structure"', '"structrue"')), ("structrue",)),
    Case(
        "shadowed permit",
        added('@id("callers-may-describe-calmly")\npermit (principal in Group::"callers", action == Action::"describe", '
              'resource is Endpoint in Zone::"serve")\nwhen { context.risk < 30 };'),
        ("callers-may-describe-calmly",),
    ),
    Case("never matches", policy("batch-callers-at-night", ("context.hour >= 22 || context.hour < 6", "context.hour >= 22 && context.hour < 6")),
         ("batch-callers-at-night",)),
    Case("provider outside without labels", policy("callers-may-ask-the-provider", ("resource.labels.contains(principal.zone) && ", ""), site=True),
         ("callers-may-ask-the-provider",)),
    Case("depth of agents raised", policy("agents-may-act-for-callers", ("context.depth <= 2", "context.depth <= 20")),
         ("agents-may-act-for-callers",)),
    Case("separation of duties lost", policy("makers-do-not-release", ('Action::"promote", Action::"deploy", Action::"sign", ', "")),
         ("makers-do-not-release",)),
    Case(
        "administration given to users",
        added('@id("callers-may-look-after-it")\npermit (principal in Group::"callers", action in Action::"administer", resource)\n'
              "when { context.risk < 40 };"),
        ("callers-may-look-after-it",),
    ),
    Case("policy without id", policy("evaluators-may-read-the-archive", ('@id("evaluators-may-read-the-archive")\n', ""), site=True), ("@id",)),
    Case("id used twice", policy("evaluators-may-read-the-archive", ('"evaluators-may-read-the-archive"', '"callers-may-ask-the-provider"'), site=True),
         ("callers-may-ask-the-provider",)),
    Case("obligation on a permit", policy("callers-may-infer", ('permit (', '@oblige("budget=30/minute")\npermit (')), ("callers-may-infer",)),
    Case("budget that bounds nothing", policy("guests-get-less", ("budget=30/minute", "budget=30000000/minute")), ("guests-get-less",)),
    Case("unknown obligation", policy("guests-get-less", ("rounded-answer=2", "rounding-answer=2")), ("guests-get-less",)),
    Case("forbid made one that can be met", policy("evaluators-do-not-release", ("forbid (", '@oblige("step-up=86400")\nforbid (')),
         ("evaluators-do-not-release",)),
    Case("every use for one", policy("callers-may-infer", ('action in [Action::"infer", Action::"chat", Action::"embed"]', 'action in Action::"use"')),
         ("callers-may-infer",)),
    Case("or for and", policy("key-users-may-have-keys", ('principal.vouches.contains("posture") &&', 'principal.vouches.contains("posture") ||')),
         ("key-users-may-have-keys",)),
    Case("permit for forbid", policy("personal-has-a-purpose", ("forbid (", "permit (")), ("personal-has-a-purpose",)),
)  # fmt: skip
"""In the Cedar files."""

SETTINGS_CASES = (
    Case("crossing to a zone that is not there", settings(('to = "old"', 'to = "odl"')), ("odl",)),
    Case("crossing to the wrong zone", settings(('from = "evaluate"\nto = "register"', 'from = "evaluate"\nto = "prepare"')), ("evaluate", "prepare")),
    Case("crossing too many", more_settings('\n[[crossings]]\nfrom = "ingest"\nto = "serve"\nactions = ["infer"]\n'), ("ingest", "serve")),
    Case("vouches dropped from a crossing", settings(('vouches = ["scan", "serves@rederived"]\n', "")), ("agents", "serve")),
    Case("no crossing left", without_crossings, ("crossing",)),
    Case("endpoint in another zone", settings(('name = "archive"\nzone = "register"', 'name = "archive"\nzone = "ingest"')), ("archive",)),
    Case("wrapped endpoint in an enforcing zone", settings(('name = "legacy"\nzone = "old"', 'name = "legacy"\nzone = "serve"')), ("wrapped",)),
    Case("asset without a zone", settings(('zones = ["prepare"]', "zones = []")), ("assets",)),
    Case("label of an asset lost", settings(('labels = ["personal"]\n', "")), ("ward",)),
    Case("plain listener on all interfaces", settings(('plain_listen = "127.0.0.1:0"', 'plain_listen = "0.0.0.0:8480"')), ("plain_listen",)),
    Case("lease of 15 minutes", settings(("[zones.serve]\nlease_seconds = 10", "[zones.serve]\nlease_seconds = 900")), ("lease_seconds", "serve")),
    Case("zone left in observe", settings(("[zones.serve]\n", '[zones.serve]\nmode = "observe"\n')), ("serve", "observe")),
    Case("setting misspelt", settings(("[zones.serve]\nlease_seconds", "[zones.serve]\nlease_second")), ("lease_second`|lease_second ",)),
)  # fmt: skip
"""In vouchgate.toml."""


@dataclass(frozen=True)
class Push:
    """What is pushed to the running gateway is changed on its way: Python on `key` (type, name), `made` (the resource as it goes out)."""

    name: str
    code: str
    names: tuple[str, ...]

    named = Case.named


PUSHES = (
    Push("revocations are not sent", "if name == 'vg-revocations': body['rules'].pop('policies', None)", ("revocations",)),
    Push("a map keeps an entry", "STALE", ("digits",)),
    Push("another upstream", "CLUSTER", ("digits",)),
    Push("a listener more", "LISTENER", ("vg-aside",)),
    Push("a route more", "ROUTE", ("vg-aside",)),
    Push("a header is not removed", "HEADER", ("removed|remove|header",)),
    Push("the lease has no end", "TTL", ("lease",)),
    Push("the decision point may fail open", "OPEN", ("failure_mode_allow|failureModeAllow|ext_authz",)),
)
"""At the gateway, for real; what each word does is the evaluation's."""


@dataclass(frozen=True)
class Point:
    """An edit of an enforcement point's own JSON: of `where`, `edit` in words that the evaluation carries out."""

    name: str
    where: str
    edit: str
    names: tuple[str, ...]

    named = Case.named


SIDECARS = (
    Point("a sidecar lets anybody in", "sidecar-archive", "anybody", ("sidecar-archive",)),
    Point("a sidecar asks for no certificate", "sidecar-archive", "no certificate", ("sidecar-archive",)),
    Point("a sidecar listens on a port more", "sidecar-archive", "listener", ("sidecar-archive", "aside")),
    Point("a sidecar that nobody meant", "sidecar-aside", "copy", ("sidecar-aside",)),
)
"""Real Envoys with edited files."""
CLUSTER = (
    Point("a policy that opens more", "extra", "extra", ("open-for-debugging",)),
    Point("a policy is missing", "missing", "missing", ("vouchgate-",)),
    Point("another port", "port", "port", ("vouchgate-",)),
    Point("egress is not held", "egress", "egress", ("vouchgate-",)),
)
"""A cluster's NetworkPolicies as its API server gives them."""

HARMLESS = (
    Case("a comment", policy("risk-ceiling", ("forbid (", "// nobody with serious findings\nforbid ("))),
    Case("spaces", policy("risk-ceiling", ("when { context.risk >= 80 }", "when {\n    context.risk   >=  80\n}"))),
    Case("an id renamed", policy("evaluators-may-read-the-archive", ('"evaluators-may-read-the-archive"', '"archive-readers"'), site=True)),
    Case("policies in another order", lambda text: Text(text.lifecycle, swap(text.site, *_moved(text.site)), text.settings)),
    Case("one zone alone", policy("monitors-may-describe", ("is Endpoint", 'is Endpoint in Zone::"serve"'))),
    Case("less risk is taken", policy("callers-may-describe", ("< 60", "< 50"))),
    Case("one vouch more", policy("importers-may-admit", ('"scan", "structure"', '"scan", "structure", "validate"'))),
    Case("a stronger tier", policy("callers-may-infer", ("serves@rederived", "serves@verified"))),
    Case("a forbid more", added('@id("guests-do-not-chat")\nforbid (principal in Group::"guests", action == Action::"chat", resource);')),
    Case("a condition turned round", policy("signers-may-sign", (
        'resource.vouches.containsAll(["scan", "structure"]) && context.risk < 40',
        'context.risk < 40 && resource.vouches.containsAll(["structure", "scan"])'))),
    Case("brackets", policy("importers-may-admit", ("context.risk < 60", "(context.risk < 60)"))),
    Case("agents act through one hand", policy("agents-may-act-for-callers", ("context.depth <= 2", "context.depth <= 1"))),
    Case("a smaller budget", policy("guests-get-less", ("budget=30/minute", "budget=10/minute"))),
    Case("an obligation becomes a no", policy("guests-get-less", ('@oblige("budget=30/minute; rounded-answer=2")\n', ""))),
    Case("datasets alone", policy("trainers-may-train", ('resource in Zone::"prepare"', 'resource is Dataset in Zone::"prepare"'))),
    Case("a permit taken away", lost("onsite-callers-from-inside")),
    Case("more stays inside", policy("personal-stays", ('"personal", "secret"', '"personal", "secret", "internal"'))),
    Case("a shorter night", policy("batch-callers-at-night", ("context.hour < 6", "context.hour < 5"))),
    Case("services alone", policy("releasers-may-deploy", ("context.risk < 40", 'context.risk < 40 && principal.kind == "service"'))),
    Case("a lower ceiling", policy("risk-ceiling", (">= 80", ">= 70"))),
    Case("an annotation", policy("risk-ceiling", ('@id("risk-ceiling")\n', '@id("risk-ceiling")\n@owner("security")\n'))),
    Case("coarser answers", policy("guests-get-less", ("rounded-answer=2", "rounded-answer=1"))),
    Case("when not for unless", policy("runs-read-what-they-declared", (
        "unless { context has declared && context.declared }", "when { !(context has declared && context.declared) }"))),
    Case("one policy becomes two", both(
        policy("evaluators-may-evaluate", ('action in [Action::"read", Action::"evaluate"]', 'action == Action::"evaluate"')),
        added('@id("evaluators-may-read")\npermit (principal in Group::"evaluators", action == Action::"read", resource)\n'
              'when { (resource in Zone::"evaluate" || resource in Zone::"register") && context.risk < 60 };'))),
    Case("a policy moves to the other file", both(
        lost("monitors-may-describe"),
        added('@id("monitors-may-describe")\npermit (principal in Group::"monitors", action == Action::"describe", resource is Endpoint)\n'
              "when { context.risk < 60 };"))),
    Case("an endpoint more with a policy of its own", both(
        more_settings('\n[[endpoints]]\nname = "notes"\nzone = "serve"\nupstream = "unix:/run/notes.up"\nprefix = "/notes"\n'
                      'routes = [{{ method = "GET", path = "/all", action = "describe" }}]\n'),
        added('@id("monitors-may-call-notes")\npermit (principal in Group::"monitors", action == Action::"call", '
              f'resource == Endpoint::"vg://{TD}/endpoint/notes")\nwhen {{ context.risk < 40 }};'))),
    Case("a comment in the settings", settings(("[zones.agents]\n", "# agents of people\n[zones.agents]\n"))),
    Case("a shorter lease", settings(("[zones.agents]\nlease_seconds = 10", "[zones.agents]\nlease_seconds = 5"))),
    Case("a crossing asks for more", settings(('vouches = ["scan", "serves@rederived"]', 'vouches = ["scan", "structure", "serves@rederived"]'))),
    Case("a crossing taken away", settings(('\n[[crossings]]\nfrom = "agents"\nto = "old"\nactions = ["call"]\n', ""))),
    Case("why a crossing is there", settings(("agents ask models that", "our agents ask models that"))),
    Case("an identity more", more_settings('\n[[identities]]\nname = "second"\nkind = "service"\nzone = "agents"\ngroups = ["callers"]\n')),
)  # fmt: skip
"""Nothing of these is an error."""


def _moved(site: str) -> tuple[str, str]:
    """Both policies of the site change places."""
    head, first, second = re.split(r"(?=^// The )", site, flags=re.MULTILINE)
    return site, f"{head}{second.rstrip()}\n\n{first.rstrip()}\n"
