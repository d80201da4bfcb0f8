"""The page as a reader meets it: headless Chromium (Debian's), no network, keyboard, desktop and phone width, axe-core."""

import shutil
import time

import numpy as np
import pytest

from pipeline.media.movie import write_clip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--mute-audio"),
]
RATE = 16000
LONG = "a_run_whose_name_says_all_that_was_changed_and_does_not_fit"
SHIFTS = """() => new Promise((resolve) => {
    const observer = new PerformanceObserver((list) => resolve(list.getEntries().map((entry) => entry.value)));
    observer.observe({ type: "layout-shift", buffered: true });
    setTimeout(() => resolve([]), 100);
})"""
BELL, DOG, GUITAR, BACKGROUND = range(4)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"),
    pytest.mark.xdist_group("browser"),  # one process, one browser
]


def wait_for(page, expression, seconds=30):
    """Wait until a JavaScript expression is true; the page's policy refuses Playwright's own wait."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)  # an empty profile of its own
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(module_world, helpers):
    """Four clips of four seconds, three of them with a file, and two runs: ``base`` is right in clips 0 and 1, ``other`` in 0 and 2."""
    world, (_, run, annotation_rows) = module_world, helpers
    frames = np.broadcast_to(np.linspace(20, 230, 32).astype(np.uint8)[:, None, None, None], (32, 48, 64, 3)).copy()
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    write_clip(world.root / "clip.mp4", frames, 8, tone, RATE)
    world.write_index(annotation_rows([str(world.root / "clip.mp4")] * 3 + [None]))
    true = [[BACKGROUND, BELL, BELL, BACKGROUND], [DOG] * 4, [BACKGROUND, GUITAR, GUITAR, GUITAR], [BACKGROUND, BACKGROUND, BELL, BELL]]
    base = [true[0], true[1], [BACKGROUND, DOG, GUITAR, GUITAR], [BELL, BACKGROUND, BELL, BACKGROUND]]
    other = [true[0], [DOG, DOG, DOG, BACKGROUND], true[2], [BELL, BACKGROUND, BELL, BACKGROUND]]
    world.write_run("base", true, {0: base, 1: base})
    world.write_run("other", true, {0: other, 1: other}, method="cace_net")
    runs = {"base": run(), "other": run(method="cace_net"), "never": run(), **{f"{LONG}_{number}": run() for number in range(12)}}
    world.report(runs, baseline="base", papers={"other": "cace_net/AVE supervised"}, notes={"base": "A note."})
    return (world.out / "index.html").as_uri()


@pytest.fixture
def opened(browser, report):
    """Opens the page at a size; any error or network request fails the test at its end."""
    faults, pages = [], []

    def at(width=1280, height=900, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else faults.append(request.url))
        page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
        page.goto(report)
        wait_for(page, "[...document.querySelectorAll('video')].every((video) => video.readyState >= 1)")
        pages.append(page)
        return page

    yield at
    for page in pages:
        page.close()
    assert faults == []


def visible(page):
    return page.eval_on_selector_all(
        ".card", "cards => cards.filter((card) => !card.hidden).map((card) => card.querySelector('h3').textContent)"
    )


def test_the_policy_lets_nothing_else_run_or_load(opened, browser, report):
    """HTML in a name or a note has no effect, and the page itself needs nothing that its policy forbids."""
    opened()  # with no complaint at its end
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security Policy" in message.text else None)
    page.goto(report)
    wait_for(page, "document.querySelectorAll('.card').length === 4")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = 'inline'";
        const handler = document.createElement("p");
        handler.setAttribute("onclick", "window.ran = 'handler'");
        const frame = document.createElement("iframe");
        frame.src = "https://example.org/";
        const image = document.createElement("img");
        image.src = "https://example.org/a.png";
        const style = document.createElement("style");
        style.textContent = "body { display: none }";
        document.body.append(script, handler, frame, image, style);
        handler.click();
        fetch("https://example.org/").catch(() => {});
    }""")
    wait_for(page, "getComputedStyle(document.body).display === 'block'")
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    for directive in ("script-src", "style-src", "img-src", "default-src"):
        assert any(directive in text for text in refused), (directive, refused)
    page.close()


def test_filters_change_what_is_shown(opened):
    page = opened()
    assert visible(page) == ["clip0", "clip1", "clip2", "clip3"]
    assert page.locator("#gallery-count").text_content() == "4 of 4 clips"
    page.select_option("#filter-class", label="Dog <b>")
    assert visible(page) == ["clip1"]
    page.select_option("#filter-class", value="")
    for value, shown in {"right": ["clip0", "clip1"], "wrong": ["clip2", "clip3"], "better": ["clip1"], "worse": ["clip2"]}.items():
        page.select_option("#filter-answer", value=value)
        assert visible(page) == shown, value
    page.select_option("#run-a", "other")  # the filter now asks about the other run
    page.select_option("#filter-answer", value="right")
    assert visible(page) == ["clip0", "clip2"]
    assert page.locator("#gallery-count").text_content() == "2 of 4 clips"


def test_lanes_show_the_runs_that_are_chosen(opened):
    page = opened()
    card = page.locator(".card").nth(2)
    assert card.locator(".lane-name").all_text_contents() == ["Truth", "base, seed 0: 75 % right", "other, seed 0: 100 % right"]
    assert card.locator(".class").all_text_contents() == ["Guitar", "Guitar", "Dog <b>", "score", "Guitar", "score", ""]
    assert card.locator(".span").all_text_contents() == ["", "✓", "✕", "✓"]
    assert card.locator(".span.wrong").get_attribute("title") == "Dog <b>, another class, 1 to 2 s"
    assert card.locator(".span.wrong").get_attribute("style") == "left: 25%; width: 25%;"
    page.select_option("#run-b", "")
    assert card.locator(".lane-name").all_text_contents() == ["Truth", "base, seed 0: 75 % right"]
    assert page.locator(".card").nth(3).locator(".class").all_text_contents() == ["Bell", "Bell", "score", ""]
    assert page.locator(".card").nth(3).locator(".span").all_text_contents() == ["", "+", "✓", "–"]


def test_the_playhead_moves_with_the_film_and_the_film_with_the_keys(opened):
    page = opened()
    card = page.locator(".card").nth(0)
    playhead, lanes = card.locator(".playhead"), card.locator(".lanes")

    def left():
        return float(playhead.evaluate("node => parseFloat(node.style.left)"))

    def seconds():
        return float(card.locator("video").evaluate("video => video.currentTime"))

    assert left() == 0
    lanes.focus()
    page.keyboard.press(" ")
    wait_for(page, "document.querySelector('.card video').currentTime > 0.4")
    page.keyboard.press(" ")
    page.wait_for_timeout(200)
    assert left() == pytest.approx(25 * seconds(), abs=0.5)  # four seconds are the whole width
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wait_for(page, "Math.abs(document.querySelector('.card video').currentTime - 2) < 0.1")
    assert left() == pytest.approx(50, abs=1)
    assert lanes.get_attribute("aria-valuetext") == "2.0 seconds; Truth: Bell; base: Bell (right); other: Bell (right)"
    box = card.locator(".over").bounding_box()  # beside the names of the classes
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 30)
    assert left() == pytest.approx(75, abs=1)


def test_a_clip_without_a_file_still_has_lanes_to_walk_through(opened):
    page = opened()
    card = page.locator(".card").nth(3)
    assert card.locator("video").count() == 0
    assert "no file" in card.locator(".no-media").text_content()
    card.locator(".lanes").focus()
    page.keyboard.press("End")
    assert card.locator(".playhead").get_attribute("style") == "left: 100%;"
    assert "base: Bell (missed)" in card.locator(".lanes").get_attribute("aria-valuetext")


def test_charts_follow_the_choice(opened):
    page = opened()
    assert page.locator("#class-bars tbody tr").nth(2).locator("td").all_text_contents() == ["66.7", "100.0"]
    assert page.locator(".confusion").count() == 2
    assert page.locator("#reliability-plots svg circle").count() > 0
    assert page.locator("#training-plots polyline").count() == 4
    page.select_option("#run-b", "")
    assert page.locator("#class-bars tbody tr").nth(2).locator("td").all_text_contents() == ["66.7"]
    assert page.locator(".confusion").count() == 1
    assert [option for option in page.locator("#run-a option").all_text_contents()] == ["base", "other"]  # `never` has nothing to show


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_violation_nothing_hangs_over_the_edge_and_nothing_moves(opened, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened(width, 900, scheme)
    response = axe.Axe().run(page).response
    assert response["passes"]  # it has looked
    assert [(v["impact"], v["id"], v["nodes"][0]["html"]) for v in response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SHIFTS) == []


def test_every_control_is_reached_by_the_keyboard(opened):
    page = opened()
    reached, controls = set(), {"run-a", "run-b", "filter-class", "filter-answer", "lanes", "VIDEO", "skip"}
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.tagName"))
        if controls <= reached:
            break
    assert controls <= reached


def test_the_results_are_sorted_by_a_click_and_cut_to_what_fits(opened):
    """On a phone a long name, the score and the difference fit; each other column comes back by its tick, and the name stays in sight."""
    page = opened(390, 800)
    frame, table = page.locator(".results").first, page.locator(".results table").first

    def names():
        return [name.split(" ")[0] for name in table.locator("tbody th:visible").all_text_contents() if not name.startswith(LONG)]

    shown = table.locator("thead th:visible")
    every = table.locator("thead th").count()
    assert shown.all_text_contents() == ["Run", "Test, mean ± std (seeds)", "Difference to base [95\u00a0%]"]
    assert table.evaluate("node => node.offsetWidth") <= frame.evaluate("node => node.clientWidth")
    columns = page.locator(".columns").first
    assert columns.locator("summary").text_content() == f"3 of {every} columns"
    columns.locator("summary").click()
    columns.get_by_label("Event F1").check()
    columns.get_by_label("Method").check()
    assert shown.count() == 5
    assert columns.locator("summary").text_content() == f"5 of {every} columns"
    score = table.locator("thead th", has_text="Event F1")
    assert names() == ["base", "other", "never"]  # as in params.yaml; the last has no number
    for order in (["base", "other", "never"], ["other", "base", "never"], ["base", "other", "never"]):
        score.locator("button").click()
        assert names() == order, score.get_attribute("aria-sort")
    for order in (["base", "never", "other"], ["other", "base", "never"]):  # words from A to Z first
        table.locator("thead th", has_text="Method").locator("button").click()
        assert names() == order
    frame.evaluate("node => { node.scrollLeft = 10000; node.scrollTop = 10000; }")
    assert table.locator("tbody th").first.bounding_box()["x"] == pytest.approx(frame.bounding_box()["x"], abs=1)
    assert table.locator("thead").bounding_box()["y"] == pytest.approx(frame.bounding_box()["y"], abs=1)
    table.locator("thead th", has_text="Run").locator("button").click()
    assert frame.evaluate("node => node.scrollTop") == 0  # where the best lines are
    frame.locator("xpath=preceding-sibling::div[1]").get_by_label("Lines with").fill("CACE other")
    assert names() == ["other"]  # both words are in its line
    assert page.locator(".found").first.text_content() == "1 of 15 lines"


def test_a_note_is_one_click_from_its_run(opened):
    page = opened()
    page.locator(".results table").first.locator("tbody th", has_text="base").locator("a").last.click()
    assert page.locator(".notes :target").text_content().endswith("A note.")
