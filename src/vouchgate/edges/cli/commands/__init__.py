"""One file a command: `SUMMARY`, `arguments(parser)`, `run(session, options)`; listed in edges/cli/main.py."""
