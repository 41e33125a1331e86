"""What the store says for the command line, in words for who reads it on a cluster.

There nobody has a command line: the store is the operator's, and its settings are the chart's.
"""

from __future__ import annotations

import re

_PHRASES = tuple(
    (re.compile(phrase), words)
    for phrase, words in (
        (
            r"wait for it, stop it, or use another store",
            "wait for it, stop it, or give each operator a prefix of its own",
        ),
        (r"upgrade, or use another --store", "run that version of the operator"),
        (r"another prefix \(--store, the", "another prefix (the"),
        (r"set --cluster-uid \((the chart's store\.clusterUid)\)", r"set \1"),
        (r",? or use another --store", ""),
        (r"use another --store", "its admin has to mend it, or to give the operator another one"),
        (
            r"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            "the Secret with the keys needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (r"\bset AWS_REGION\b", "set the chart's store.region"),
        (r"\bset AWS_CA_BUNDLE\b", "give the certificates of its authority (the chart's store.ca)"),
        (r"\bcheck AWS_ENDPOINT_URL\b", "check the chart's store.endpoint"),
        (r"\braise HIPPO_S3_PATIENCE\b", "raise the chart's store.patience"),
    )
)


def for_cluster(message: str) -> str:
    """The message without advice that nobody can take there."""
    for phrase, words in _PHRASES:
        message = phrase.sub(words, message)
    return message
