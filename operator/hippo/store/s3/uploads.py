"""Multipart uploads, and the leftovers of killed writers."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

from minio.error import S3Error
from urllib3.response import BaseHTTPResponse

from hippo.store.s3.chunks import Part
from hippo.store.s3.client import WRITER, Bucket, S3Client, new_writer
from hippo.store.s3.errors import code_of, explain, understanding
from hippo.store.s3.network import NotS3


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload, visible as a blob only once completed."""

    client: S3Client
    name: str
    number: str
    writer: str = ""

    @classmethod
    def begin(cls, client: S3Client, name: str) -> Upload:
        writer = new_writer()
        headers = {WRITER: writer, "Content-Type": "application/octet-stream"}
        with _explained(client, "write", name):
            answer = client.request("write", "POST", name, query={"uploads": ""}, headers=headers)
            return cls(client, name, _text(_parse(answer), "UploadId"), writer)

    def write(self, part: int, body: Part) -> str:
        """Writes a part and returns its tag. Parts are numbered from 1."""
        query = {"partNumber": str(part), "uploadId": self.number}
        with _explained(self.client, "write", self.name):
            answer = self.client.request("write", "PUT", self.name, query=query, body=body)
        return answer.headers.get("ETag", "")

    def complete(self, tags: list[str], *, if_absent: bool) -> bool:
        """Completes the upload; returns False, keeping the parts, if ``if_absent`` found a blob."""
        root = ElementTree.Element("CompleteMultipartUpload")
        for number, tag in enumerate(tags, 1):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = tag
        body = ElementTree.tostring(root)
        headers = {"Content-Type": "application/xml"}
        if if_absent:
            headers["If-None-Match"] = "*"

        def send(bucket: Bucket, is_repeated: bool) -> bool:
            key, query = self.client.settings.prefix + self.name, {"uploadId": self.number}
            try:
                answer = bucket.request("POST", key, query=query, headers=headers, body=body)
            except S3Error as error:
                return self.client.settle(
                    error, self.name, self.writer, if_absent=if_absent, is_repeated=is_repeated
                )
            found = _parse(answer)
            if found.tag.endswith("Error"):  # S3 may find an error after it has sent status 200
                raise ConnectionError(0, _text(found, "Code"))
            return True

        return self.client.write(self.name, send)

    def abort(self) -> None:
        """Discards the parts, if there are any. Raises StoreError."""
        with _explained(self.client, "write", self.name):
            try:
                self.client.request("write", "DELETE", self.name, query={"uploadId": self.number})
            except S3Error as error:
                if code_of(error) != "NoSuchUpload":
                    raise


def find_uploads(client: S3Client) -> list[tuple[Upload, datetime]]:
    """Returns the incomplete uploads below the store's prefix, and when they began."""
    prefix = client.settings.prefix
    with _explained(client, "clean", ""):
        found = list(_list(client, prefix))
        if not found:  # MinIO lists by whole keys only, or everything without a prefix
            found = list(_list(client, ""))
    return [
        (Upload(client, key.removeprefix(prefix), number), begun)
        for key, number, begun in found
        if key.startswith(prefix)
    ]


def _list(client: S3Client, prefix: str) -> Iterator[tuple[str, str, datetime]]:
    marker = ""
    while True:
        query = {"uploads": "", "prefix": prefix, "key-marker": marker, "encoding-type": "url"}
        root = _parse(client.request("clean", "GET", None, query=query))
        for item in root.iterfind("{*}Upload"):
            with understanding():
                begun = datetime.fromisoformat(_text(item, "Initiated")).astimezone(UTC)
            yield _unquote(_text(item, "Key")), _text(item, "UploadId"), begun
        before, marker = marker, _unquote(_text(root, "NextKeyMarker"))
        if _text(root, "IsTruncated") != "true" or not marker:
            return
        if marker <= before:
            raise NotS3("a listing without end")


@contextlib.contextmanager
def _explained(client: S3Client, action: str, name: str) -> Iterator[None]:
    try:
        yield
    except (S3Error, NotS3, ElementTree.ParseError) as error:
        raise explain(error, action, name, client.settings) from error


def _parse(answer: BaseHTTPResponse) -> ElementTree.Element:
    return ElementTree.fromstring(answer.data)  # noqa: S314 - the expat of today bounds what entities grow to


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext("{*}" + name, "")


_unquote = urllib.parse.unquote_plus
