"""What `helm test` runs, in the operator's image, with its service account and keys."""

import json
import ssl
import sys
import urllib.request
import uuid
from pathlib import Path

from hippo.store import StoreError, open_blobs

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
KINDS = {"studies", "trials", "searchplans"}


def check_kinds() -> None:
    request = urllib.request.Request(
        "https://kubernetes.default.svc/apis/hippo.dev/v1alpha1",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
    )
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # authorities of many clusters leave out fields
    try:
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:  # noqa: S310 - of the chart's own values
            served = {resource["name"] for resource in json.load(answer)["resources"]}
    except OSError as error:
        sys.exit(f"the API server does not serve hippo.dev/v1alpha1: {error}; see crds.install")
    if missing := KINDS - served:
        sys.exit(f"the API server does not serve {', '.join(sorted(missing))}: see crds.install")
    print("ok: the API server serves the kinds")


def check_store(url: str) -> None:
    name = f"helm-test/{uuid.uuid4().hex}"
    try:
        blobs = open_blobs(url)
        blobs.put(name, b"written by helm test", if_absent=True)
        blobs.get(name)
        blobs.delete(name)
    except StoreError as error:
        sys.exit(f"the store {url} cannot be used: {error}")
    print(f"ok: {url} can be written, read and deleted from")


check_kinds()
check_store(sys.argv[1])
