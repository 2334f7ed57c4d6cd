"""
Build a release from one commit, and verify it like a user.

`python -m release build` uses these modules in this order:

- `source` reads the version, the commit and its time, and exports the commit's files.
- `packages` and `chart` build the wheel, the sdist and the Helm chart from these files.
- `images` builds each platform with docker or podman, and `oci` writes the reproducible image index.
- `sboms` lists the packages of each image, and `provenance` states how each artefact was built.
- `checksums` lists all files, and `signing` signs this list, the provenance and the SBOMs.

`python -m release check` reads only the folder that `build` wrote, and the public keys.
`go_programs` builds cosign, crane, syft and Helm from their Go modules.

Rule: the same commit and the same base image give the same packages, chart, images and SBOMs, byte for byte. The day,
the folder and the umask do not matter. Only signatures differ.
"""
