"""The site builds without a warning, and shows the public names by topic."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import hf_hardneg
import hf_hardneg.hub
import hf_hardneg.training

pytestmark = pytest.mark.slow

BUILD = Path(__file__).parents[1] / "docs/build.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run([sys.executable, str(BUILD), str(folder)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.parametrize("package", [hf_hardneg, hf_hardneg.training, hf_hardneg.hub])
def test_every_public_name_has_a_place_among_the_topics_and_an_entry(package, site):
    text = (site / (package.__name__.replace(".", "/") + ".html")).read_text()
    topics = text[text.index('class="docstring"') :].partition("</section>")[0]
    for name in package.__all__:
        assert f'<a href="#{name}">{name}</a>' in topics and f'<section id="{name}">' in text


def test_arguments_are_a_list_and_examples_are_code(site):
    text = (site / "hf_hardneg.html").read_text()
    entry = text[text.index('<section id="mine">') :].partition("</section>")[0].partition('class="docstring"')[2]
    assert "<li><strong>num_proc (<code>int</code>, <em>optional</em>):</strong>" in entry
    assert re.search(r"<pre>.*?mine.*?num_negatives", entry, re.DOTALL)
    assert "<li><strong>options:</strong>" in entry


def test_what_pages_link_to_is_there(site):
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="(?!https?:|data:|\$|#)([^"#]+)', page.read_text()):
            assert (page.parent / link).exists(), (page, link)


def test_pages_beside_the_reference_are_in_the_site_and_the_front_page_leads_there(site):
    front = (site / "index.html").read_text()
    for page in BUILD.parent.glob("*.md"):
        text = (site / f"{page.stem}.html").read_text()
        assert page.read_text().partition("\n")[0].removeprefix("# ") in text
        assert f'href="{page.stem}.html"' in front, f"the README links to no docs/{page.name}"
    assert "<table>" in (site / "what_is_cached_when.html").read_text()
