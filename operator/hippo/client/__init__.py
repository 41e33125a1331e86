"""Ask for trials from your own program: the client of ``algorithm: {name: external}``.

``hippo run`` trains, in a process of its own; this client talks to it through the store, a folder
or S3 alike, and may come and go, as may ``hippo run``.

    with Client.open(".hippo", "study.yaml") as client:
        ticket = client.submit({"lr": 0.1}, steps=10)
        view = client.wait(ticket)
        if view.metrics[10]["accuracy"] > 0.5:
            client.extend(ticket, steps=100)
        else:
            client.stop(ticket)

The end of the block closes the study, which then ends once all is trained. An exception does not:
the program can be started again and goes on. :meth:`Client.drive` is the loop around all that, for
a tuner with ``ask`` and ``tell``.

All that is raised here on purpose:

- InvalidSpec, a ValueError: an argument cannot be used; each line begins with the path to it.
- Refused: the study will not carry out a request, or there was none.
- Closed, a Refused: this client has closed the study.
- StudyEnded: the study has ended before it could answer.
- StoreError: the store cannot be read or written, or holds no such study.
- TimeoutError: no answer in the time that was given.

Every message is one line or, of InvalidSpec, one for each problem.
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
