"""`vouchgate`: finds the command, imports only that, renders every error once.

Rules
1. `--help` shows the eight commands that a day's work needs; the rest stands under nouns, all of it under `vouchgate help all`.
2. Exit codes: 0 done, 1 findings or denied, 2 usage, 3 error.
3. Nothing is imported before the command is known, so that help and usage errors are immediate.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vouchgate.vocabulary.errors import VouchgateError

DAILY = {
    "wrap": "put an unmodified server behind the gateway, in observe",
    "adopt": "see what enforcing a zone would refuse, and move it",
    "why": "explain a decision: who, what, because of which evidence, how to fix it",
    "revoke": "withdraw an identity, artifact, key or vouch, and all that rests on it",
    "scan": "look into a model file without running it",
    "run": "run a command under an identity of its own",
    "status": "what is running, what is refused, what needs you",
    "doctor": "check this machine, the settings and the installation",
}
OTHER = {
    "up": "start everything, in the foreground",
    "init": "make vouchgate.toml, the keys and the store",
    "login": "log in with your organisation's provider",
    "logout": "end the login",
    "forecast": "what will be refused in 24 h, 7 d, 30 d, and what renews it",
    "whoami": "as whom commands act",
    "import": "take a model file in: scan, decide, vouch",
    "path": "where admitted content lies on this machine, by its digest",
    "disarm": "rebuild a model file from its tensors and plain values, without running it",
    "digest": "name a file or folder by its content, and tell what changed since",
    "sign": "sign a model with a key or certificate (OpenSSF Model Signing)",
    "verify": "hold a model to its signature, byte for byte",
    "waive": "go without one piece of evidence for a time, agreed by two persons",
    "backup": "write a consistent backup",
    "restore": "put a backup back",
}
NOUNS = {
    "identity": {
        "register": "say which facts earn which identity",
        "unregister": "take a registration away",
        "join-token": "a single-use token that earns a registration once",
        "issue": "issue a certificate or token",
        "list": "who is registered, who was seen",
        "watch": "fetch this process's own identity over the Workload API, and follow it",
        "check": "hold certificates, tokens and bundles to their standards",
    },
    "policy": {
        "check": "check policy files, or what is in force: errors, oddities, and what can be proved",
        "prove": "prove a statement about every request there can be, or show one that refutes it",
        "explain": "explain a decision, as `vouchgate why` does",
        "test": "hold policies to decision vectors, in process and through a gateway",
        "vectors": "hold the policy engine to Cedar's conformance vectors",
        "show": "the policy in force",
        "apply": "put a policy file in force",
        "history": "every signed version: who wrote it, who agreed, when",
        "diff": "how two policies differ, and what that would have meant",
        "replay": "who gains and who loses under another policy, over recorded decisions",
        "suggest": "least privilege from what was used, as readable Cedar",
        "privilege": "what callers may do beside what they did",
        "export-log": "write recorded decisions to a file",
    },
    "bom": {
        "make": "write a bill of materials of a model (CycloneDX), and sign it",
        "verify": "hold a bill of materials to its schema, signature and files",
        "gaps": "how much of it has verified provenance, and what is vulnerable: can it ship",
    },
    "evidence": {"show": "the vouches that an endpoint rests on"},
    "approve": {
        "list": "requests that wait for a person",
        "show": "what exactly one request asks for",
        "give": "agree to one request, once",
        "refuse": "refuse one request",
    },
    "vouch": {
        "add": "hand in a vouch that a delegated producer signed",
        "list": "what was vouched for about one name",
        "provenance": "let a builder's SLSA provenance count for an artifact that is kept",
        "sign": "sign a vouch with a producer's own key",
        "signature": "let a signature on a model count for an artifact that is kept",
    },
    "audit": {
        "verify": "recompute the log",
        "prove": "write a proof of one entry",
        "show": "read the log",
        "checkpoint": "the newest checkpoint",
    },
    "federation": {"list": "foreign trust domains and their bundles"},
    "secrets": {
        "list": "others' secrets and where their rotation stands",
        "put": "bring a credential of somebody else's system",
        "rotate": "rotate one now, or go back",
        "get": "the credential in use, where policy releases it",
    },
    "knowledge": {
        "show": "what is known of a class or function that artifacts refer to, and who let it in",
        "list": "the libraries that are known, or every name of one",
        "diff": "what another version lets in, new callables first",
        "verify": "whether it is signed, whole, and no older than before",
        "allow": "answer for a class of your own in one artifact, for a time",
    },
    "runs": {"begin": "begin a run on declared inputs", "end": "end a run and strike its credentials", "list": "runs, and which go on"},
    "token": {
        "exchange": "act for somebody: exchange their token for a narrower one of yours",
        "proof": "the DPoP proof for one request with such a token",
    },
    "assets": {
        "list": "what was placed, where it lies, and what is vouched for of it",
        "put": "place a dataset, model, adapter, key or artifact in a zone",
        "move": "take something into another zone, if policy and a crossing let it",
        "remove": "forget where something lies",
    },
    "gate": {
        "kubernetes": "admit workloads of a cluster only with models that may be deployed",
        "files": "hold a repository's files before they are taken in; its code is left to review",
    },
    "zones": {
        "export": "zones as documents for Envoy, Kubernetes, Istio",
        "drift": "what enforcement points really enforce, beside what is meant",
        "list": "zones, their mode and lease",
        "map": "zones, what is in them, what may pass and what did",
        "prove": "prove that nothing gets from one zone to another, or show the way",
        "blast": "what is reached if an identity or content is in the wrong hands",
        "surface": "how much can be reached, with vouchgate and without",
    },
    "admin": {
        "login": "a one-time code for the console",
        "claim": "become the first administrator",
        "renew-ca": "make a new certificate for the CA's key",
        "ca": "roots and issuers of the X.509 authority",
        "ca-rotate": "move the X.509 authority to a new root, step by step",
        "ca-request": "write a request for a CA above ours",
        "ca-install": "take in the chain that a CA above ours returned",
        "ca-openbao": "have OpenBao or Vault sign our CA",
        "break-glass": "administer for an hour, on the offline root's word",
        "move-keys": "move the signer's keys to where the settings say",
        "change-passphrase": "replace the passphrase of the signer's keys",
        "forget-passphrase": "empty the kernel's keyring",
        "try-pin": "let one PIN be tried again",
        "renew-trust": "sign the next TrustRoot with the offline root key",
        "accept-clock": "go on after a jump of the clock",
        "rescan": "scan again what a weaker scanner passed",
    },
    "config": {"keys": "every key of vouchgate.toml with meaning and bounds", "check": "check vouchgate.toml"},
}
HELP = ("-h", "--help", "help")


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code."""
    given = sys.argv[1:] if argv is None else argv
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    try:
        return _run(given)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        from vouchgate.vocabulary.errors import VouchgateError

        if not isinstance(error, VouchgateError):
            raise
        _tell(error, as_json)
        return error.exit_code


def _run(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        from vouchgate import __version__

        print(f"vouchgate {__version__}")
        return 0
    if not given or given[0] in HELP:
        print(_all_help() if given[1:] == ["all"] else _help())
        return 0 if given else 2
    name, rest = given[0], given[1:]
    if name in NOUNS:
        if not rest or rest[0] in HELP:
            print(_noun_help(name))
            return 0 if rest else 2
        if rest[0] not in NOUNS[name]:
            raise _unknown(f"{name} {rest[0]}", [f"{name} {verb}" for verb in NOUNS[name]], f"vouchgate {name} --help")
        return _command(f"{name} {rest[0]}", rest[1:])
    if name not in DAILY and name not in OTHER:
        raise _unknown(name, _meant(name), "vouchgate --help")
    return _command(name, rest)


def _command(name: str, rest: list[str]) -> int:
    from vouchgate.edges.cli.arguments import Parser, common
    from vouchgate.edges.cli.session import Session

    module = import_module(
        "vouchgate.edges.cli.commands." + {"import": "import_artifact"}.get(name, name.replace(" ", "_").replace("-", "_"))
    )
    parser = Parser(prog=f"vouchgate {name}", description=getattr(module, "DETAIL", module.SUMMARY))
    module.arguments(parser)
    common(parser)
    options = parser.parse_args(rest)
    code: int = module.run(Session(options), options)
    return code


def _unknown(word: str, known: list[str], see: str) -> VouchgateError:
    from vouchgate.edges.cli.arguments import Usage, nearest

    return Usage(f"`{word[:80]}` is not a command", remedy=nearest(word, known) or f"see `{see}`")


def _meant(word: str) -> list[str]:
    """Every command; a verb alone stands for its noun and verb, so `accept-clock` finds `admin accept-clock`."""
    whole = [f"{noun} {verb}" for noun, verbs in NOUNS.items() for verb in verbs]
    exact = [command for command in whole if command.split()[1] == word]
    return exact or [*DAILY, *OTHER, *NOUNS, *whole]


def _tell(error: VouchgateError, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps({"error": error.code, "reason": error.reason, "remedy": error.remedy}))
        return
    from vouchgate.edges.cli.printing import Printer

    printer = Printer(sys.stderr, colors=sys.stderr.isatty())
    printer.marked("bad", error.reason)
    printer.line(f"  {printer.paint('fix', 'note')} {error.remedy}")


def _rows(commands: dict[str, str], prefix: str = "") -> str:
    return "\n".join(f"  {(prefix + name).ljust(20)} {told}" for name, told in commands.items())


def _help() -> str:
    return (
        "vouchgate: models, data, jobs and people pass only on fresh, signed evidence\n\n"
        f"{_rows(DAILY)}\n\n"
        f"  more under {', '.join(NOUNS)}\n"
        "  start with `vouchgate init` and `vouchgate up`; everything: `vouchgate help all`; one command: `vouchgate why --help`"
    )


def _all_help() -> str:
    nouns = "\n\n".join(_rows(verbs, f"{noun} ") for noun, verbs in NOUNS.items())
    return (
        f"daily\n{_rows(DAILY)}\n\nthe installation\n{_rows(OTHER)}\n\nby noun\n{nouns}\n\n"
        "every command takes --json, --config FILE, --socket PATH and --help\n"
        "exit codes: 0 done, 1 findings or denied, 2 usage, 3 error"
    )


def _noun_help(noun: str) -> str:
    return f"vouchgate {noun} ...\n\n{_rows(NOUNS[noun])}"


if __name__ == "__main__":
    sys.exit(main())
