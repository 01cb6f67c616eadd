"""The page in a real headless Chromium: keys, a killed server, hostile texts, dark and light, narrow and wide."""

import re
import shutil
from pathlib import Path

import pytest
from datasets import load_from_disk

from hf_hardneg import Verdicts, audit, mine, report
from tests.audits.pages import rows_of, running
from tests.hub.hostile import TEXTS
from tests.worlds import world

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="no chromium on this machine: apt-get install chromium; the page was not tried in a browser",
    ),
]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def new_tab(chromium, **options):
    """A page on which every message to the console, error, dialog and request elsewhere is noted."""
    page = chromium.new_context(**options).new_page()
    page.noted = []
    page.on("console", lambda message: page.noted.append(message.text))
    page.on("pageerror", lambda error: page.noted.append(str(error)))
    page.on("dialog", lambda dialog: (page.noted.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: LOCAL.match(request.url) or page.noted.append(request.url))
    return page


@pytest.fixture
def tab(chromium):
    page = new_tab(chromium, viewport={"width": 1280, "height": 900})
    yield page
    page.context.close()


LOCAL = re.compile("http://127[.]0[.]0[.]1:|file:|data:,$")


def opened(tab, url):
    tab.goto(url)
    tab.wait_for_selector("article.negative")
    return tab


def pressed(tab, keys):
    """Press keys as fast as they go, and wait until all of them are answered."""
    for key in keys:
        tab.keyboard.press(key)
    tab.evaluate("() => waiting")


def judged(tab):
    return re.search(r"([\d,]+) judged, ([\d,]+) relevant", tab.text_content("#progress")).groups()


def test_thirty_verdicts_by_keyboard_outlive_a_killed_server_and_lead_the_next_mining(tmp_path, tab):
    pairs, corpus = world(4)
    mine(pairs, corpus, num_negatives=3).save_to_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        opened(tab, url)
        pressed(tab, "ynn" * 10)
        assert judged(tab) == ("30", "10")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        opened(tab, url)
        assert judged(tab) == ("30", "10") and tab.noted == []
        current = tab.locator('[aria-current="true"]')
        assert current.locator(".said").count() == 0
    verdicts = Verdicts(tmp_path / "v.jsonl")
    refused = {(each.query, each.document) for each in verdicts if each.score}
    mined = load_from_disk(tmp_path / "mined")
    before = {(row["query"], text) for row in mined for text in row["negatives"]}
    assert len(verdicts) == 30 and len(refused) == 10 and refused <= before
    again = mine(pairs, corpus, num_negatives=3, known_positives=[verdicts.positives()])
    assert not refused & {(row["query"], text) for row in again for text in row["negatives"]}
    assert report(verdicts.on(mined)).false_negatives.judged >= 30


def test_every_key(tmp_path, tab):
    rows_of([f"text {number}" for number in range(5)]).save_to_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        opened(tab, url)

        def where():
            marks = tab.eval_on_selector_all("article.negative", "all => all.map(each => each.ariaCurrent)")
            return tab.text_content(".asked").strip(), marks.index("true")

        assert where() == ("text 0", 0)
        for key, place in (("j", ("text 0", 1)), ("j", ("text 1", 0)), ("k", ("text 0", 1)), ("k", ("text 0", 0))):
            pressed(tab, key)
            assert where() == place
        pressed(tab, "k")
        assert where() == ("text 0", 0)
        pressed(tab, "ynY")
        assert where() == ("text 1", 1) and judged(tab) == ("3", "2")
        pressed(tab, "uu")
        assert where() == ("text 0", 1) and judged(tab) == ("1", "1")
        assert tab.text_content("article.negative >> nth=0 >> .said") == "relevant"
        tab.keyboard.press("Control+n")
        tab.keyboard.press("Alt+y")
        pressed(tab, "j" * 20)
        assert where() == ("text 4", 1) and judged(tab) == ("1", "1")
        for name, count in (("irrelevant", ("2", "1")), ("undo", ("1", "1"))):
            tab.click(f"#{name}")
            tab.evaluate("() => waiting")
            assert judged(tab) == count
        tab.click("article.negative >> nth=0")
        assert where() == ("text 4", 0) and tab.noted == []
        tab.select_option("#order", "random sample")
        tab.evaluate("() => waiting")
        assert tab.locator("article.negative").count() == 1
        pressed(tab, "n")
        assert [each.drawn for each in Verdicts(tmp_path / "v.jsonl")] == [False, True]


def test_what_is_typed_while_the_server_is_gone_is_not_shown_as_kept(tmp_path, tab):
    rows_of(["a", "b"]).save_to_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        opened(tab, url)
        pressed(tab, "y")
    pressed(tab, "y")
    assert "The server does not answer" in tab.text_content("#message") and tab.is_visible("#message")
    assert judged(tab) == ("1", "1") and len(Verdicts(tmp_path / "v.jsonl")) == 1


def test_hostile_texts_are_inert(tmp_path, tab):
    rows_of(TEXTS).save_to_disk(tmp_path / "mined")
    saved = load_from_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        opened(tab, url)
        tab.select_option("#order", "as mined")
        tab.evaluate("() => waiting")
        kinds = None
        for row in saved:
            found = tab.evaluate(
                "() => [document.querySelector('.asked').textContent,"
                " [...document.querySelectorAll('article .text')].map(each => each.textContent),"
                " [...new Set([...document.querySelectorAll('*')].map(each => each.localName))].sort(),"
                " document.title]"
            )
            assert found[:2] == [row["query"], [*row["positive"], *row["negatives"]]]
            kinds = kinds or {*found[2], "mark"}
            assert set(found[2]) <= kinds and found[3] == "Review of hard negatives"
            pressed(tab, "jj")
        assert tab.noted == [] and tab.url == url


def test_the_policy_stops_what_gets_in(tmp_path, tab):
    """What a mistake in the page would let in runs nowhere, and text does not become markup."""
    rows_of(["a"]).save_to_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        opened(tab, url)
        assert tab.evaluate(f"() => {{ {WRONG} }}") == "TypeError"
        failed = []
        tab.on("requestfailed", lambda request: failed.append((request.url, request.failure)))
        tab.evaluate(
            "() => { const made = document.createElement('img'); made.src = '/x.png'; document.body.append(made) }"
        )
        tab.wait_for_timeout(100)
        assert [reason for _, reason in failed] == ["csp"]


WRONG = "try { document.body.innerHTML = '<i>x</i>'; return 'markup' } catch (error) { return error.name }"


@pytest.mark.parametrize(("width", "scheme"), [(640, "dark"), (640, "light"), (1280, "dark"), (2560, "light")])
def test_nothing_leaves_the_window(width, scheme, tmp_path, tab):
    rows_of(["word " * 200, "x" * 5000]).save_to_disk(tmp_path / "mined")
    tab.set_viewport_size({"width": width, "height": 800})
    tab.emulate_media(color_scheme=scheme)
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        opened(tab, url)
        for _ in range(2):
            assert tab.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
            assert tab.evaluate(DARK) == (scheme == "dark")
            box = tab.locator('[aria-current="true"]').bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
            pressed(tab, "jj")


DARK = "() => { const rgb = getComputedStyle(document.body).backgroundColor.match(/\\d+/g); return rgb[0] < 128 }"


@pytest.mark.parametrize("width", [640, 1600])
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("name", ["audit", "report"])
def test_pages_are_read_without_scripts_and_hostile_texts_are_inert_there(name, scheme, width, tmp_path, chromium):
    mined = rows_of(TEXTS)
    path = Path((audit(mined) if name == "audit" else report(mined)).html(tmp_path / "page.html"))
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    for script in (False, True):
        page = new_tab(chromium, java_script_enabled=script, **options)
        page.goto(path.as_uri())
        assert page.locator("svg").count() >= 1 and page.locator("script, img, iframe, object").count() == 0
        assert page.locator("h1").all_text_contents() == [f"{name.title()} of hard negatives"]
        assert page.noted == [] and page.locator(".pair").count() >= 3
        if script:
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate(DARK) == (scheme == "dark")
        page.context.close()
