"""Folders in public containers of Azure Blob storage."""

from shared.domain.node import ModelFile
from shared.model_sources.base import (
    LONGEST_LISTING,
    MOST_FILES,
    MOST_PAGES,
    BlobSource,
    file_size,
    is_safe_path,
    refused,
)
from shared.model_sources.sigv4 import canonical_query, encode_path
from shared.model_sources.web import Web, parse_xml


class Blobs:
    """Lists folders in containers that allow anonymous listing; private ones are not supported."""

    def __init__(self, web: Web, anywhere: bool) -> None:
        self._web = web
        self._anywhere = anywhere
        """Also allow local hosts; for development only."""

    def list_files(self, source: BlobSource) -> list[ModelFile]:
        """Return the folder's files. Raises LaunchRefusedError and ProviderUnavailableError."""
        container = f"https://{source.host}/{encode_path(source.container)}"
        query = {"restype": "container", "comp": "list", "prefix": source.prefix}
        files: list[ModelFile] = []
        web = self._web.within(LONGEST_LISTING)
        for _ in range(MOST_PAGES):
            url = f"{container}?{canonical_query(query)}"
            # Anonymous requests without a version get answers in the format of 2009.
            answer = web.get(url, {"x-ms-version": "2021-12-02"}, source.name, public_only=not self._anywhere)
            if answer.status_code != 200:
                hint = "; only containers that allow anonymous listing can be read"
                raise refused(f"{source.name}: the store answered {answer.status_code}{hint}")
            root = parse_xml(answer.content, source.name)
            if root.tag != "EnumerationResults":
                raise refused(f"{source.name} is not a container in Azure Blob Storage")
            for blob in root.iter("Blob"):
                name = blob.findtext("Name") or ""
                path = name.removeprefix(source.prefix)
                kind = blob.findtext("Properties/ResourceType")
                if name.endswith("/") or kind == "directory":
                    continue
                if not is_safe_path(path):
                    raise refused(f"{source.name}: the name {name!r} is not a valid path")
                size = file_size(blob.findtext("Properties/Content-Length"), source.name)
                files.append(ModelFile(path=path, url=f"{container}/{encode_path(name)}", size=size))
            if len(files) > MOST_FILES:
                raise refused(f"{source.name} has more than {MOST_FILES} files")
            marker = root.findtext("NextMarker")
            if not marker:
                break
            query["marker"] = marker
        else:
            raise refused(f"{source.name}: the listing does not end")
        if not files:
            raise refused(f"there are no files in {source.name}")
        return files
