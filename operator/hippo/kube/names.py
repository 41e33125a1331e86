"""Every name that the operator shares with a cluster: kinds, labels, annotations, reasons."""

from __future__ import annotations

GROUP = "hippo.dev"
VERSION = "v1alpha1"
STUDIES, TRIALS, SEARCH_PLANS = "studies", "trials", "searchplans"

LABEL_PLAN = "hippo.dev/plan"
"""On pods: the name of their SearchPlan."""
LABEL_CHAIN = "hippo.dev/chain"
LABEL_STUDY = "hippo.dev/study"
"""On Trials: their study. On pods: the lead study, which lends template and slot."""
LABEL_STUDY_UID = "hippo.dev/study-uid"
LABEL_ASKER_PREFIX = "study.hippo.dev/"
"""On pods: one label for each study that asks for the work."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "hippo"
APPLICATION_LABELS = "app.kubernetes.io"
"""Prefix of the labels by which Services and NetworkPolicies of the chart select its pods."""

ANNOTATION_ASSIGNMENT = "hippo.dev/assignment"
"""On pods: the assignment, as JSON, which the runner reads from a downward-API file."""

ANNOTATION_RETRY = "hippo.dev/retry-failed"
"""On Studies, by users: each new value tries failed trials again, once."""

STORE_SECRET = "hippo-store"  # noqa: S105 - the name of one
"""In each namespace with studies, made by its admin: the credentials of its pods for the store."""
STORE_CA = "hippo-store-ca"
"""ConfigMap in each namespace with studies, if the store's certificate needs it: key ca.crt."""

TRAINER_CONTAINER = "trainer"
RUNNER = ("python3", "-u", "-m", "stage_runner", "run")
"""The command of that container."""

# Conditions of Studies and SearchPlans.
ACCEPTED, SUSPENDED, COMPLETE, FAILED = "Accepted", "Suspended", "Complete", "Failed"
PROGRESSING = "Progressing"
NON_DETERMINISTIC = "NonDeterministic"
STALLED = "Stalled"

# Reasons: of conditions, and of Events.
REASON_VALID = "Valid"
REASON_INVALID = "InvalidSpec"
REASON_TOO_COSTLY = "TooCostly"
REASON_IMMUTABLE = "ImmutableField"
REASON_POD_REFUSED = "PodRefused"
REASON_IMAGE_CHANGED = "ImageChanged"
REASON_IMAGE_UNFIT = "ImageDoesNotFit"
REASON_STORE = "StoreUnavailable"
REASON_OTHER_CLUSTER = "StoreOfAnotherCluster"
REASON_NEWER = "NewerFormat"
REASON_LOCKED = "PlanInUse"
REASON_API = "RequestFailed"
REASON_DEFECT = "Defect"
REASON_FAULT = "StudyFault"
REASON_TRAINER_CHANGED = "TrainerChanged"
REASON_RUNNING = "Running"
REASON_WAITING = "WaitingForPods"
REASON_NO_STEP = "NoStepEnded"
REASON_SUSPENDED = "Suspended"
REASON_RESUMED = "Resumed"
REASON_REOPENED = "Reopened"
REASON_SUCCEEDED = "Succeeded"
REASON_FAILED = "Failed"
REASON_CHAIN_FAILED = "ChainFailed"
REASON_CHAIN_PREEMPTED = "ChainPreempted"
REASON_NOTICE = "Notice"

CLUSTER_FORMAT = 1
"""Version of what operators write into objects for one another, and of the CRDs that hold it. An
operator leaves alone what has a greater one."""
ANNOTATION_FORMAT = f"{GROUP}/format-version"
"""Of a CRD."""
