"""Raters in a real browser: a session by keyboard, and a whole study with everything going wrong."""

from __future__ import annotations

import json
import socket
import statistics
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest
import uvicorn
from plans import make_study
from serving import Server

from palette_bench.study.analysis import analyse
from palette_bench.study.folder import StudyFolder
from palette_bench.study.monitor import progress_of
from palette_bench.study.platforms import export, import_votes
from palette_bench.study.server import create_app
from palette_bench.study.session import VotingSession
from palette_bench.study.store import STORE, VoteStore
from palette_bench.study.votes import Vote

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.enable_socket

DISPLAY_MS, PRACTICE, TRIALS = 200, 2, 30
# Waits of the page pass ten times as fast; what is shown is timed by frames and stays as long as it is.
HURRY = "{ const wait = setTimeout; window.setTimeout = (f, ms) => wait(f, ms / 10); }"
READY = """() => {
  const open = [...document.querySelectorAll("main > section")].find((section) => !section.hidden)?.id;
  if (open !== "stage") return open ?? null;
  if (!document.getElementById("next").hidden) return "told";
  return document.getElementById("choose-left").getAttribute("aria-disabled") === "false" ? "choose" : null;
}"""
BUTTONS = {"consent": "agree", "window": "ready", "instructions": "start", "pause": "go-on", "told": "next"}


@pytest.fixture(scope="module")
def designed(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two methods and two raters, 200 ms a pair."""
    folder = tmp_path_factory.mktemp("designed")
    make_study(folder, mini_jpeg, images=20, raters=2, practice=PRACTICE, display_ms=DISPLAY_MS)
    return folder / "study"


def votes_of(study: Path) -> dict[str, list[Vote]]:
    store = VoteStore(study / STORE)
    try:
        found: dict[str, list[Vote]] = {}
        for vote in store.votes():
            found.setdefault(vote.session, []).append(vote)
        return found
    finally:
        store.close()


def tab_to(page: Page, button: str) -> None:
    """Move the focus by Tab alone."""
    for _ in range(12):
        if page.evaluate("document.activeElement.id") == button:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{button} cannot be reached by Tab")


class Person:
    """Somebody in front of a browser window, who uses the keyboard only."""

    def __init__(self, browser: Browser, address: str, beside: Person | None = None) -> None:
        """Open the study's address, in a window of their own or in another tab beside somebody's."""
        size = {"width": 1000, "height": 760}
        context = beside.page.context if beside else browser.new_context(viewport=size)
        self.page = context.new_page()
        self.faults: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.add_init_script(HURRY)
        self.page.goto(address)
        self.chosen: list[str] = []

    def step(self) -> str:
        """Do the one thing the page waits for; return what it was."""
        state = str(self.page.wait_for_function(READY).json_value())
        if state == "choose":
            key = "fj"[len(self.chosen) % 3 == 1]
            self.page.keyboard.press(key)
            self.chosen.append("R" if key == "j" else "L")
        elif state in BUTTONS:
            tab_to(self.page, BUTTONS[state])
            self.page.keyboard.press("Enter")
        self.page.wait_for_function(f"() => ({READY})() !== {state!r}") if state != "done" else None
        return state


def test_a_session_by_keyboard_shows_images_for_the_planned_time(
    browser: Browser, server: Server, study: Path
) -> None:
    person = Person(browser, server.address)
    states = [person.step()]
    while states[-1] != "done":
        states.append(person.step())
    assert states.count("choose") == TRIALS
    assert states.count("told") == PRACTICE  # feedback in practice, and never after
    assert len(person.page.text_content("#code") or "") == 8
    (votes,) = votes_of(study).values()
    assert [vote.choice for vote in votes] == person.chosen
    assert {(vote.decoded, vote.focus_lost, vote.device) for vote in votes} == {(1, 0, "keyboard")}
    errors = [abs((vote.shown_ms or 0) - DISPLAY_MS) for vote in votes]
    assert statistics.median(errors) <= 50
    assert min(vote.shown_ms or 0 for vote in votes) >= DISPLAY_MS - 17  # never a frame too early
    assert all((vote.rt_ms or 0) > 0 for vote in votes)
    assert person.faults == []


def test_a_small_window_gets_a_kind_word_and_the_study_goes_on(browser: Browser, server: Server) -> None:
    person = Person(browser, server.address)
    while person.step() != "window":
        pass
    person.page.set_viewport_size({"width": 500, "height": 700})
    person.step()
    assert person.page.is_visible("text=A little more room, please")
    person.page.set_viewport_size({"width": 800, "height": 700})
    person.page.wait_for_selector("#stage:not([hidden])")
    assert person.faults == []


def test_leaving_deletes_everything(browser: Browser, server: Server, study: Path) -> None:
    person = Person(browser, server.address)
    while len(person.chosen) < 3:
        person.step()
    person.page.click("#leave")
    person.page.keyboard.press("Escape")  # a slip: nothing happens
    assert len(votes_of(study)) == 1
    person.page.click("#leave")
    person.page.click("#really-leave")
    person.page.wait_for_selector("#over:not([hidden])")
    assert votes_of(study) == {}


@pytest.mark.long
def test_static_pages_give_back_what_the_import_reads(
    browser: Browser, designed: Path, tmp_path: Path
) -> None:
    folder = StudyFolder.open(designed)
    export(folder, "folder", tmp_path / "folder")
    export(folder, "amt", tmp_path / "amt", url="https://pages.example")
    person = Person(browser, (tmp_path / "folder" / "001.html").as_uri())
    while len(person.chosen) < 3:
        person.step()
    person.page.wait_for_function(READY)
    lasting, of_tab = person.page.evaluate(
        "[localStorage, sessionStorage].map((s) => s[Object.keys(s).find((key) => key.endsWith('state'))])"
    )
    assert len(json.loads(lasting)["answers"]) == 3
    assert lasting == of_tab
    person.page.evaluate("localStorage.clear()")  # one store is enough
    person.page.reload()
    assert person.page.wait_for_function(READY).json_value() == "pause"  # "Welcome back"
    while person.step() != "done":
        pass
    with person.page.expect_download() as download:
        person.page.click("#file")
    saved = download.value.path()
    votes = import_votes(folder, "folder", [saved]).votes
    assert [vote.choice for vote in votes] == person.chosen
    assert [vote.trial for vote in votes if vote.focus_lost] == [3]
    assert statistics.median(abs((v.shown_ms or 0) - DISPLAY_MS) for v in votes) <= 50
    assert person.faults == []

    posted: list[str] = []

    def receive(route: Route) -> None:
        posted.append(route.request.post_data or "")
        route.fulfill(body="thanks")

    person.page.route("https://workersandbox.mturk.com/**", receive)
    task = "?assignmentId=A7&workerId=W&turkSubmitTo=https://workersandbox.mturk.com"
    person.page.evaluate(  # one task knows nothing of another: hand the answers over, to send them
        "() => { for (const [key, text] of Object.entries(localStorage))"
        " localStorage.setItem(key.replace('  state', ' A7 state'), text); }"
    )
    person.page.goto((tmp_path / "amt" / "001.html").as_uri() + task)
    person.page.click("#platform-form button")
    person.page.wait_for_url("https://workersandbox.mturk.com/mturk/externalSubmit")
    (form,) = map(parse_qs, posted)
    assert form["assignmentId"] == ["A7"]
    assert form["answers"][0].replace("\r\n", "\n") == saved.read_text()


def both_choose(one: Person, two: Person, choices: int) -> None:
    """Let two people go on in turns until each has chosen so often."""
    while len(one.chosen) < choices or len(two.chosen) < choices:
        for person in (one, two):
            if len(person.chosen) < choices:
                person.step()


@pytest.mark.long
def test_a_whole_study_survives_a_reload_a_double_submit_and_a_kill(
    browser: Browser, server: Server, study: Path
) -> None:
    one, two = Person(browser, server.address), Person(browser, server.address)

    def twice(route: Route) -> None:
        route.fetch()
        route.continue_()

    def killed(route: Route) -> None:
        route.fetch()  # stored, and the reply is lost with the server
        server.kill()
        server.start()
        route.abort()

    both_choose(one, two, 5)
    one.page.wait_for_function(READY)
    one.page.reload()
    assert str(one.page.wait_for_function(READY).json_value()) == "pause"  # welcome back
    both_choose(one, two, 8)
    two.page.route("**/vote", twice, times=4)
    both_choose(one, two, 12)
    one.page.route("**/vote", killed, times=1)
    both_choose(one, two, TRIALS)
    assert (one.step(), two.step()) == ("done", "done")
    sessions = votes_of(study)
    assert sorted([v.choice for v in votes] for votes in sessions.values()) == sorted(
        [one.chosen, two.chosen]
    )
    assert all([v.trial for v in votes] == list(range(TRIALS)) for votes in sessions.values())
    looked_twice = [v.trial for votes in sessions.values() for v in votes if v.focus_lost]
    assert looked_twice == [5]  # the pair shown again after the reload is marked, and no other


class Served:
    """A study served from a thread of this process, whose hours pass when a test says so."""

    def __init__(self, study: Path) -> None:
        """Serve on a free port."""
        self.now, self.address, self._study = 0.0, "", study
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        store = VoteStore(self._study / STORE)  # of the thread that uses it
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            voting = VotingSession(StudyFolder.open(self._study), store, 3600.0, lambda: self.now)
            config = uvicorn.Config(create_app(voting, [self.address]), log_level="warning", lifespan="off")
            self._server = uvicorn.Server(config)
            self._ready.set()
            self._server.run(sockets=[listener])
        store.close()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)


@pytest.mark.long
@pytest.mark.trust("studies: leave")
def test_a_study_of_six_places_ends_though_two_raters_leave(
    browser: Browser, mini_jpeg: Path, tmp_path: Path
) -> None:
    plan = {"images": 20, "raters": 6, "trials_per_method": 4, "practice": 1, "catch": 1}
    plan |= {"display_ms": DISPLAY_MS, "exclude.catch_min_correct": 0, "exclude.side_bias_p": 0}
    plan |= {"exclude.min_median_rt_ms": 0, "exclude.max_timing_error_ms": 5000}  # a machine, on a busy one
    folder = make_study(tmp_path, mini_jpeg, **plan)
    served = Served(folder.path)
    try:
        people = [Person(browser, served.address) for _ in range(6)]
        for person in people[:2]:  # they begin, and close the window
            while len(person.chosen) < 3:
                person.step()
            person.page.wait_for_load_state("networkidle")
            person.page.goto("about:blank")
        gone = people[0]
        for person in people[2:]:
            while person.step() != "done":
                pass
        late = Person(browser, served.address)
        while late.page.wait_for_function(READY).json_value() != "over":
            late.step()
        assert "All places of this study are taken" in late.page.inner_text("#over")  # so far
        served.now = 3601.0
        for _ in range(2):
            person = Person(browser, served.address)
            while person.step() != "done":
                pass
            assert person.page.is_visible("#code-box")
        gone.page.goto(served.address)
        gone.page.wait_for_selector("text=Your place was given on")
        assert "your answers are kept" in gone.page.inner_text("#over").lower()
        assert gone.page.is_visible("#leave")  # who wants them deleted still can
    finally:
        served.stop()
    store = VoteStore(folder.path / STORE)
    progress = progress_of(folder, store)
    votes = store.votes()
    store.close()
    trials = folder.study.trials
    assert (progress.finished, progress.released, progress.completion) == (6, 2, 1.0)
    assert progress.rates is not None
    lost = sorted(n for n in Counter(vote.rater for vote in votes).values() if n < trials)
    assert len(votes) - sum(lost) == 6 * trials
    assert lost == [3, 3]  # none of theirs is lost
    analysis = analyse(folder.study, votes).analysis
    assert (analysis.flow.started, analysis.flow.finished, analysis.flow.analysed) == (8, 6, 6)
    for method in analysis.methods:
        assert method.rate.low is not None
        assert method.rate.raters == 6


@pytest.mark.trust("studies: second look")
def test_a_second_tab_is_a_second_look_and_the_server_marks_it(
    browser: Browser, server: Server, study: Path
) -> None:
    person = Person(browser, server.address)
    while len(person.chosen) < 4 or person.page.wait_for_function(READY).json_value() != "choose":
        person.step()
    other = Person(browser, server.address, beside=person)
    while other.page.wait_for_function(READY).json_value() != "choose":
        other.step()
    other.page.close()
    person.step()
    person.page.wait_for_function(READY)  # the vote has arrived
    (votes,) = votes_of(study).values()
    assert [vote.focus_lost for vote in votes][:5] == [0, 0, 0, 0, 1]


@pytest.mark.trust("studies: second look")
def test_a_second_tab_of_an_exported_page_goes_on_and_overwrites_nothing(
    browser: Browser, designed: Path, tmp_path: Path
) -> None:
    export(StudyFolder.open(designed), "folder", tmp_path / "pages")
    page = next(path for path in sorted((tmp_path / "pages").rglob("*.html")))
    first = Person(browser, page.as_uri())
    while len(first.chosen) < 3:
        first.step()
    while first.page.wait_for_function(READY).json_value() != "choose":
        first.step()
    answers = "Object.entries(localStorage).find(([k]) => k.endsWith('state'))[1]"
    before = json.loads(first.page.evaluate(answers))["answers"]
    second = Person(browser, page.as_uri(), beside=first)
    while second.page.wait_for_function(READY).json_value() != "choose":
        second.step()
    first.step()
    assert "Open in another tab" in (first.page.text_content("main") or "")
    after = json.loads(first.page.evaluate(answers))["answers"]
    assert after[: len(before)] == before
