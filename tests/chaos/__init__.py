"""The fault campaign: studies under injected faults, held against an undisturbed run.

    python -m tests.chaos local cluster --output build/chaos.json     (or: make chaos)

Each fault gets a study of its own, on the real node or in the local driver. A witness outside is
told of every step by the trainers themselves, so what was trained is known whatever the reports
say. After each fault: the study has ended with the results of an undisturbed run; nothing was
trained twice but steps whose state no checkpoint held when their worker died; nothing is left
behind. The figures go into docs/reliability.md.
"""
