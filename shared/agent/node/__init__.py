"""The agent: fetches a model, installs vLLM, serves it, reports, and ends its node when it is no longer wanted.

This package runs on the GPU node, built into one file by `shared/agent/build.py`. Python 3.9 or later, standard library
only; nothing of it is imported by the control plane, nor the other way round.

The environment is described in `config.py`. Exit code: 0 when the control plane ended the attempt or another agent runs
it; 1 when the agent ended by itself (deadline, lease, eviction, SIGTERM).
"""
