"""Request trials from your own program: the client of ``algorithm: {name: external}``.

``hippo run`` trains, in a process of its own; this client talks to it through the store, a folder
or S3 alike. The client and ``hippo run`` may each be stopped and restarted at any time.

    with Client.open(".hippo", "study.yaml") as client:
        ticket = client.submit({"lr": 0.1}, steps=10)
        view = client.wait(ticket)
        if view.metrics[10]["accuracy"] > 0.5:
            client.extend(ticket, steps=100)
        else:
            client.stop(ticket)

Leaving the block closes the study, which then ends once everything is trained. An exception leaves
it open: restart the program, and it continues. :meth:`Client.drive` runs this whole loop for a
tuner with ``ask`` and ``tell``.

Errors:

- InvalidSpec, a ValueError: an argument cannot be used; each line begins with the path to it.
- Refused: the study will not carry out a request, or there was none.
- Closed, a Refused: this client has closed the study.
- StudyEnded: the study has ended before it could answer.
- StoreError: the store cannot be read or written, or holds no such study.
- TimeoutError: no answer within the given time.

Every message is one line; that of InvalidSpec has one line for each problem.
"""

from hippo.client.client import Client
from hippo.client.errors import Closed, Refused, StudyEnded
from hippo.client.trials import AskTell, TrialView
from hippo.model import InvalidSpec
from hippo.store import StoreError

__all__ = [
    "AskTell",
    "Client",
    "Closed",
    "InvalidSpec",
    "Refused",
    "StoreError",
    "StudyEnded",
    "TrialView",
]
