"""Fill in the checksums, sizes and commits that ``registry.toml`` lacks. Needs a network.

What hosts publish is taken from them: Zenodo and figshare list md5, the model hub sha256 and git hashes. For files of
hosts that publish none, ``--download`` gets each once and takes the hash of what came. A known hash is never changed:
if a host says another one, that is an error.

    python tools/refresh_registry.py [--download]
"""

import argparse
import dataclasses
import json
import re
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

from cellhermes import _fetch
from cellhermes._disk import file_hash
from cellhermes._fetch import _hosts, _weights
from cellhermes._fetch._download import download, read_url
from cellhermes._fetch._hosts import Repository
from cellhermes._fetch._kind import check_kind
from cellhermes._fetch._registry import COMMIT, Entry, File

REGISTRY = Path(__file__).resolve().parents[1] / "src" / "cellhermes" / "registry.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--download", action="store_true", help="also get files whose host publishes no checksum")
    options = parser.parse_args()
    refresh(REGISTRY, ask=with_download if options.download else from_host, ask_hub=from_hub)


def refresh(path: Path, *, ask: Callable[[Entry, File], File], ask_hub: Callable[[Entry], Repository | None]) -> None:
    text = path.read_text("utf-8")
    for entry in _fetch.registry()["data"].values():
        for file in entry.files:
            found = ask(entry, file)
            if file.known and found.hash != file.hash:
                raise SystemExit(f"{entry.name}: {file.name}: the host says {found.hash}, the registry {file.hash}")
            text = text.replace(line(file), line(found))
    for entry in _fetch.registry()["model"].values():
        found = None if COMMIT.fullmatch(entry.commit) else ask_hub(entry)
        if found is not None:
            text = pinned(text, entry, found)
    tomllib.loads(text)
    path.write_text(text, "utf-8")


def line(file: File) -> str:
    """A file as it stands in the registry, without what is behind its size."""
    return f'{{ name = "{file.name}", hash = "{file.hash}", size = {file.size}, urls = ["{file.urls[0]}"'


def pinned(text: str, entry: Entry, found: Repository) -> str:
    """The registry with the commit of a repository, and with its files if it is an adapter."""
    start = text.index(f'[model."{entry.name}"]')
    end = text.find("\n[", start) + 1 or len(text)
    block = re.sub(r'^commit = ".*"$', f'commit = "{found.commit}"', text[start:end], flags=re.M)
    if set(_weights.ADAPTER) <= set(found.files):
        files = "".join(f"    {line(found.files[name])}] }},\n" for name in _weights.ADAPTER)
        block = block.replace("files = []", f"files = [\n{files}]")
    return text[:start] + block + text[end:]


def from_host(entry: Entry, file: File) -> File:
    """What the host publishes of a file; the file as it is, if that is nothing."""
    if "zenodo.org/" in file.urls[0]:
        return _hosts.of_zenodo(file)
    if match := re.search(r"figshare\.(\d+)", entry.source):
        listed = json.loads(read_url(f"https://api.figshare.com/v2/articles/{match[1]}/files?page_size=100"))
        number = int(file.urls[0].rpartition("/")[2])
        told = next(one for one in listed if one["id"] == number)
        return dataclasses.replace(file, hash=f"md5:{told['computed_md5']}", size=int(told["size"]))
    return file


def with_download(entry: Entry, file: File) -> File:
    found = from_host(entry, file)
    if found.known:
        return found
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, file.name + ".part")
        download(file.urls, part, check=lambda path: check_kind(path, file.name), is_known=False)
        return dataclasses.replace(file, hash=f"sha256:{file_hash(part)}", size=part.stat().st_size)


def from_hub(entry: Entry) -> Repository:
    return _hosts.of_hub(entry.name, "")


if __name__ == "__main__":
    main()
