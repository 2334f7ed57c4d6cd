"""
Put the built site into a folder that holds every published version.

    python -m website.publish FOLDER VERSION

The folder is what the host serves: `VERSION/` and, for the newest version, a copy in `latest/`. The version selector
reads `versions.json`, and `index.html` leads to `latest/`. Rule: other versions stay as they are.
"""

import json
import shutil
import sys
from pathlib import Path

from website.build import BUILD
from website.versions import Version, with_version

ENTRANCE = """<!doctype html>
<meta charset="utf-8">
<title>irsa-sidecar</title>
<link rel="canonical" href="latest/">
<meta http-equiv="refresh" content="0; url=latest/">
<a href="latest/">Documentation of irsa-sidecar</a>
"""
"""Page at the root of the host, which sends browsers to the newest version."""


def publish(site: Path, folder: Path, version: str) -> None:
    """
    Copy the site into the folder as this version.

    Raises ValueError if the version does not consist of numbers with dots between them.
    """
    listed = folder / "versions.json"
    published: list[Version] = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []
    versions = with_version(published, version)
    newest = ["latest"] if "latest" in next(each for each in versions if each["version"] == version)["aliases"] else []
    for name in (version, *newest):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(site, folder / name)
    listed.write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")
    (folder / "index.html").write_text(ENTRANCE, encoding="utf-8")
    (folder / ".nojekyll").write_text("", encoding="utf-8")


if __name__ == "__main__":
    publish(BUILD / "site", Path(sys.argv[1]), sys.argv[2])
