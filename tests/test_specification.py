"""Citations of SPECIFICATION.md: one form, and only sections that exist."""

import re
from pathlib import Path

import pytest

import rvc_lightning

PACKAGE = Path(rvc_lightning.__file__).parent
ROOT = PACKAGE.parent
SPECIFICATION = PACKAGE / "SPECIFICATION.md"
CITING = (
    (ROOT, "*.md"),
    (ROOT / ".github", "*.md"),
    (ROOT / "conf", "**/*"),
    (ROOT / "tests", "**/*.md"),
    (PACKAGE, "**/*.md"),
    (PACKAGE, "**/*.py"),
)
SUFFIXES = {".md", ".py", ".yaml"}

NUMBER = r"\d+(?:\.\d+)*(?!\.?\d)"
# A space in these patterns may also be a line break, in comments too.
GAP = r"(?:[ \t]+|[ \t]*\n[ \t]*(?:#:?[ \t]*)?)"
NAME = r"SPECIFICATION\.md[`)]*"
ONE = rf"section {NUMBER}(?!,?(?: and| to)? \d)"
SEVERAL = rf"sections {NUMBER}(?:, {NUMBER})*(?:,? and| to) {NUMBER}"


def compiled(pattern):
    return re.compile(pattern.replace(" ", GAP))


CITATION = compiled(rf"{NAME}, (?P<sections>{ONE}|{SEVERAL})")
ATTEMPT = compiled(r"(?i:SPECIFICATION\.md)[`)]*[,:;]? (?=§|[Ss]ection|[Ss]ec\.|\d)")
OLD = (
    compiled(r"(?i)\bspec(?:ification)?,?(?: sections?)? \d[\d.]*"),
    compiled(r"(?i)\bdefects? [a-z]\d+"),
)


def citing_files():
    files = {path for folder, pattern in CITING for path in folder.glob(pattern) if path.suffix in SUFFIXES}
    return sorted(files - {SPECIFICATION})


def cited(text):
    """Return the section numbers of all citations in `text`."""
    return [number for match in CITATION.finditer(text) for number in re.findall(NUMBER, match["sections"])]


def malformed(text):
    """Return citations in another form than the agreed one."""
    begins = {match.start() for match in CITATION.finditer(text)}
    attempts = [match for match in ATTEMPT.finditer(text) if match.start() not in begins]
    return [
        " ".join(text[match.start() : match.end() + 12].split())
        for match in sorted([*attempts, *(m for old in OLD for m in old.finditer(text))], key=lambda m: m.start())
    ]


def headings(text):
    """Return number and title of every numbered heading."""
    return re.findall(rf"^#{{2,4}} ({NUMBER})\.? (.+)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def specification():
    return SPECIFICATION.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sections(specification):
    return {number for number, _ in headings(specification)}


@pytest.fixture(scope="module")
def texts():
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in citing_files()}


def test_package_configuration_and_pages_are_searched(texts):
    assert {"README.md", "conf/train.yaml", "rvc_lightning/__init__.py"} <= texts.keys()


def test_every_cited_section_exists(texts, sections):
    missing = [f"{path}: {number}" for path, text in texts.items() for number in cited(text) if number not in sections]
    assert missing == []


def test_there_are_citations(texts):
    assert sum(len(cited(text)) for text in texts.values()) > 0


def test_every_citation_has_the_same_form(texts):
    assert [f"{path}: {found}" for path, text in texts.items() for found in malformed(text)] == []


def test_sections_are_numbered_in_order_below_their_parents(specification, sections):
    numbers = [tuple(map(int, number.split("."))) for number, _ in headings(specification)]
    assert len(numbers) > 40 and numbers == sorted(set(numbers))
    assert [number for number in sections if "." in number and number.rpartition(".")[0] not in sections] == []


def test_contents_link_every_chapter(specification):
    chapters = re.findall(r"^## (\d+\. .+)$", specification, re.MULTILINE)
    anchors = ["#" + re.sub(r"[^\w -]", "", chapter).lower().replace(" ", "-") for chapter in chapters]
    contents = specification.split("## Contents", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"\[(.+?)\]\((.+?)\)", contents) == list(zip(chapters, anchors, strict=True))


def test_references_inside_the_specification_resolve(specification, sections):
    references = [
        number
        for match in compiled(rf"{SEVERAL}|section {NUMBER}").finditer(specification)
        for number in re.findall(NUMBER, match[0])
    ]
    assert len(references) > 20 and [number for number in references if number not in sections] == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ('"""The flow (SPECIFICATION.md, section 4.4; Kim et al. 2021)."""', ["4.4"]),
        ("See SPECIFICATION.md, section 10.", ["10"]),
        ("SPECIFICATION.md, sections 3.1 and 3.2", ["3.1", "3.2"]),
        ("SPECIFICATION.md, sections 1.1, 2.1 and 14.3.", ["1.1", "2.1", "14.3"]),
        ("SPECIFICATION.md, sections 1.1 to 1.5", ["1.1", "1.5"]),
        ("# as in SPECIFICATION.md,\n    # section 8.2", ["8.2"]),
        ("`SPECIFICATION.md`, section 0", ["0"]),
        ("[SPECIFICATION.md](rvc_lightning/SPECIFICATION.md), section 6", ["6"]),
        ("[SPECIFICATION.md](rvc_lightning/SPECIFICATION.md) has the formats", []),
    ],
)
def test_citations_are_recognized(text, numbers):
    assert cited(text) == numbers and malformed(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "(specification 10.4)",
        "Specification sections 0 and 1",
        "the spec 8",
        "see specification\n    section 10",
        "(defect T18)",
        "(defects T1 and T2)",
        "SPECIFICATION.md 10.4",
        "SPECIFICATION.md section 10.4",
        "SPECIFICATION.md, section 3.1 and 3.2",
        "SPECIFICATION.md, sections 3.1",
        "SPECIFICATION.md, Section 3.1",
        "specification.md, section 3.1",
        "SPECIFICATION.md, §3",
    ],
)
def test_other_forms_are_found(text):
    assert cited(text) == [] and len(malformed(text)) == 1
