import pytest

from website.pages import Entry, Repository, description, rewritten, sections, titled

REPOSITORY = Repository("https://example.com/repo", "v1")


def is_folder(path: str) -> bool:
    return "." not in path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](../SECURITY.md)", "[a](https://example.com/repo/blob/v1/SECURITY.md)"),
        (
            "[a](../k8s/pod/a.yaml) [b](../k8s/pod)",
            "/blob/v1/k8s/pod/a.yaml) [b](https://example.com/repo/tree/v1/k8s/pod)",
        ),
        ("[a](../README.md#see-it-work)", "[a](https://example.com/repo/blob/v1/README.md#see-it-work)"),
        ('<img src="../k8s/a.svg">', '<img src="https://example.com/repo/raw/v1/k8s/a.svg">'),
        ("See [a].\n\n[a]: ../SECURITY.md", "[a]: https://example.com/repo/blob/v1/SECURITY.md"),
    ],
)
def test_link_out_of_docs_leads_to_the_repository(text: str, expected: str) -> None:
    assert rewritten(text, "page.md", REPOSITORY, is_folder).endswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "[a](roles.md#chains) [b](#here) [c](https://example.com/../x) [d](mailto:a@example.com)",
        '<img src="pictures/a.svg">',
        "```\n[a](../SECURITY.md)\n```",
    ],
)
def test_other_links_stay_unchanged(text: str) -> None:
    assert rewritten(text, "page.md", REPOSITORY, is_folder) == text


def test_links_of_a_page_in_a_folder_are_resolved() -> None:
    text = "[a](../roles.md) [b](../../k8s/a.yaml)"
    expected = "[a](../roles.md) [b](https://example.com/repo/blob/v1/k8s/a.yaml)"
    assert rewritten(text, "decisions/0001.md", REPOSITORY, is_folder) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Title\n\nOne `a` and [b](c.md).\nTwo.\n\nThree.", "One a and b. Two."),
        ("# Title\n\n<picture>\n</picture>\n\n```\ncode\n```\n\nText.", "Text."),
        ("# Title", ""),
        ("First. " + "word " * 60, "First."),
        ("word " * 60, "word " * 39 + "word …"),
    ],
)
def test_description_is_the_first_paragraph(text: str, expected: str) -> None:
    assert description(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See [install.md](install.md#images).", "See [Install](install.md#images)."),
        ("[install.md](../install.md)", "[install.md](../install.md)"),
        ("[the images](install.md#images)", "[the images](install.md#images)"),
        ("[other.md](other.md)", "[other.md](other.md)"),
        ("```md\n[install.md](install.md)\n```", "```md\n[install.md](install.md)\n```"),
    ],
)
def test_link_with_a_file_name_gets_the_title_of_the_page(text: str, expected: str) -> None:
    assert titled(text, "page.md", {"install.md": "Install"}) == expected


def test_title_is_found_from_a_page_in_a_folder() -> None:
    text = "[install.md](../install.md)"
    assert titled(text, "decisions/0001.md", {"install.md": "Install"}) == "[Install](../install.md)"


def test_navigation_has_the_sections_of_the_index() -> None:
    listed = "- [`local`](local.md): all of it\n- [Local](local.md)\n- [`local`](local.md)\n"
    index = (
        f"# Documentation\n[x](x.md)\n## Tutorials\n{listed}"
        "## Nothing\ntext\n## Reference\n| [Settings](reference/settings.md) | [out](../README.md) | [y](y.md#a) |\n"
    )
    assert list(sections(index)) == [
        ("Tutorials", [Entry("local", "local.md"), Entry("Local", "local.md")]),
        ("Reference", [Entry("Settings", "reference/settings.md")]),
    ]
