# SPDX-License-Identifier: Apache-2.0
"""The demo's chat page as a visitor meets it: what it shows and says, and what becomes of the stream behind it."""
import json

import pytest

from env import wait_for

FIXED = "This is the demo backend of handoffd"


def stream_end(site, since: int) -> str:
    return site.daemon.log.wait("event=stream-end", 5, since)[0]


@pytest.fixture(name="look")
def fixture_look(site, browser):
    """visit(), for what does not depend on the way an answer comes."""
    return lambda backend: browser.open(f"{site.addresses['http']}/{backend}/")


def conversation(page) -> list:
    """The messages that the scripted upstream got, as the last answer tells."""
    return json.loads(page.answer().removeprefix("first words; "))


# ---------------------------------------------------------------- an answer

def test_an_answer_word_by_word(visit):
    page = visit()
    page.send("How do you do?")
    assert page.wait_end() == "" and not page.is_error()
    (asker, question), (_, answer) = page.messages()
    assert (asker, question) == ("user", "How do you do?") and answer.startswith("How do you do?\n\n" + FIXED)
    assert page.prompt() == "" and page.focused() == "prompt"
    shown = page.growth()
    words = len(answer.split())
    assert len({length for _, length in shown}) > words / 3, "words came in heaps"
    assert shown[-1][0] - shown[0][0] > words * 50 * 0.6, "the answer came at once"
    assert page.protocol() == ("h2" if page.driver.current_url.startswith("https:") else "http/1.1")


def test_any_text(visit):
    """What is asked and answered is text: never markup, never cut, whatever its size and characters."""
    page = visit()
    text = '<img src=x onerror="document.title=1">&amp; "quotes" \\ \u2028 \U0001f1e6\U0001f1f9 e\u0301 ' + "x" * 120000
    page.paste(text)
    page.find("#send").click()
    assert page.wait_end() == ""
    (_, question), (_, answer) = page.messages()
    assert question == text and answer.startswith(text + "\n\n" + FIXED)
    assert page.driver.title == "handoffd demo" and page.run("return document.querySelectorAll('#log img').length") == 0


def test_the_conversation_goes_on(visit):
    page = visit("scripted")
    page.send("one")
    assert page.wait_end() == ""
    page.send("two")
    assert page.wait_end() == ""
    assert conversation(page) == ["one", 'first words; ["one"]', "two"]


def test_keyboard_alone(look):
    page = look("slow")
    assert page.focused() == "prompt"
    page.write("line one")
    page.driver.switch_to.active_element.send_keys("\ue008\ue007\ue008")  # shift down, enter, shift up
    page.write("line two")
    assert page.prompt() == "line one\nline two" and not page.busy()
    page.press("ENTER")
    page.wait_answer("line")
    page.press("ESCAPE")
    assert page.wait_end() == "Stopped." and page.focused() == "prompt"
    page.press("ENTER")  # of nothing
    assert not page.busy() and len(page.messages()) == 2


# ---------------------------------------------------------------- its end before time

def test_stop(site, visit):
    """The button ends the stream at the daemon; what had come stays, in the page and in the conversation."""
    page, since = visit("slow"), site.daemon.log.position()
    page.send("one two three four five")
    page.wait_answer("one two")
    assert page.busy() and not page.find("#send").is_enabled() and page.text("#status") == "Answering…"
    page.find("#stop").click()
    assert page.wait_end() == "Stopped." and not page.is_error() and page.find("#send").is_enabled()
    assert "outcome=client-gone" in stream_end(site, since)
    said = page.answer()
    assert said.startswith("one two") and FIXED not in said
    assert page.text("#log article:last-child h2") == "Answer (stopped)" and page.prompt() == ""
    assert page.focused() == "prompt"
    page.send("and now?")
    page.wait_answer("and")
    page.press("ESCAPE")
    page.wait_end()


def test_reload_while_an_answer_arrives(site, visit):
    page, since = visit("slow"), site.daemon.log.position()
    page.send("one two three four five")
    page.wait_answer("one two")
    page.reload()
    assert "outcome=client-gone" in stream_end(site, since)
    assert page.messages() == [] and not page.busy()
    page.send("again")
    page.wait_answer("again")
    page.press("ESCAPE")
    page.wait_end()


def test_process_that_dies(site, visit):
    page, since = visit("slow"), site.daemon.log.position()
    page.send("one two three four five")
    page.wait_answer("one two")
    site.daemon.expect("event=crashed")
    site.apache.expect("relay: the daemon broke off")
    site.daemon.kill("streamer", "slow")
    site.daemon.log.wait("event=peer-connected role=streamer backend=slow", 5, since)
    assert page.wait_end() == "The connection was interrupted." and page.is_error()
    assert page.prompt() == "one two three four five"
    page.find("#send").click()
    page.wait_answer("one")
    page.find("#stop").click()
    page.wait_end()


# ---------------------------------------------------------------- what goes wrong

@pytest.mark.parametrize("question, part, said", [
    ("refuse 500", None, "has failed"), ("refuse 429", None, "too many requests. Please try again in 7 s."),
    ("fail", "first words; ", "reported an error"), ("cut", "first words; ", "broke off"),
], ids=lambda value: (value or "nothing").split()[-1])
def test_upstream_that_fails(visit, question, part, said):
    """The page says so; the question can be sent again, and is no part of the conversation."""
    page = visit("scripted")
    page.send(question)
    status = page.wait_end()
    assert page.is_error() and said in status and "upstream detail" not in status
    assert page.prompt() == question and page.focused() == "prompt"
    headings = page.run('return [...document.querySelectorAll("#log h2")].map((h) => h.textContent)')
    assert headings == ["You (not answered)"] + (["Answer (incomplete)"] if part else [])
    assert part is None or page.answer() == part
    page.paste("whole")
    page.find("#send").click()
    assert page.wait_end() == "" and conversation(page) == ["whole"]


def test_empty_answer(look):
    page = look("scripted")
    page.send("empty")
    assert page.wait_end() == "The answer is empty." and not page.is_error()


def test_daemon_that_is_not_there(site, visit):
    page = visit("gone")
    page.send("anybody?")
    status = page.wait_end()
    assert page.is_error() and "503" in status and "Please try again in" in status and page.prompt() == "anybody?"
    site.apache.expect("reason=daemon-unreachable")


def test_network_that_is_not_there(visit):
    page = visit()
    page.browser.network(False)
    page.send("anybody?")
    assert page.wait_end() == "The connection was interrupted." and page.is_error()
    page.browser.network(True)
    page.find("#send").click()
    page.wait_answer(FIXED)
    page.wait_end()


def test_lost_session(site, visit):
    """No handoff without a session; the page offers to begin a new one."""
    page = visit()
    site.end_sessions()
    before = site.daemon.counters("gate")["handoffd_forwarded_total"]
    page.send("still there?")
    assert page.wait_end() == "The session has ended. Load the page again" and page.is_error()
    assert site.daemon.counters("gate")["handoffd_forwarded_total"] == before
    assert page.prompt() == "still there?"
    page.find("#status a").click()
    wait_for(lambda: page.messages() == [], 5, "the page again")
    page.watch()
    page.send("and now?")
    page.wait_answer("and now?", FIXED)


def test_conversation_that_is_too_long(look):
    page = look("chat")
    page.paste("x" * 300000)
    page.find("#send").click()
    assert page.wait_end().startswith("The conversation is too long.") and page.is_error()
    assert len(page.prompt()) == 300000


# ---------------------------------------------------------------- to look at

def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1:-1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(page, selector: str) -> float:
    """Of an element's text against the first background behind it (WCAG 2: 4.5 is enough)."""
    text, back = page.run("""
        let element = arguments[0];
        const text = getComputedStyle(element).color;
        while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
        return [text, getComputedStyle(element).backgroundColor];""", page.find(selector))
    darker, lighter = sorted((luminance(text), luminance(back)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_read(look, scheme):
    page = look("scripted")
    page.browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.send("refuse 500")
    page.wait_end()
    assert page.is_error()
    page.write("x")
    assert (luminance(page.run("return getComputedStyle(document.body).backgroundColor")) < 0.5) == (scheme == "dark")
    for selector in ("h1", "header p", "#log h2", "#log p", "#status", "label", "#prompt", "#hint", "#send"):
        assert contrast(page, selector) >= 4.5, selector


def test_names_for_screen_readers(look):
    page = look("slow")
    page.send("one two" + " three" * 100)
    page.wait_answer("one")
    page.browser.command("Accessibility.enable")
    tree = page.browser.command("Accessibility.getFullAXTree")["nodes"]
    page.browser.command("Accessibility.disable")
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]}
    for pair in (("textbox", "Message"), ("button", "Send"), ("button", "Stop"), ("log", "Conversation"),
                 ("heading", "You"), ("heading", "Answer"), ("RootWebArea", "handoffd demo")):
        assert pair in named, named
    assert any(role == "status" for role, _ in named)
    assert page.find("#log").get_attribute("aria-busy") == "true"
    page.press("ESCAPE")
    page.wait_end()
    assert page.find("#log").get_attribute("aria-busy") == "false"


@pytest.mark.parametrize("width, height", [(320, 568), (375, 667), (1280, 720)])
def test_everything_in_sight(look, width, height):
    """At a phone's width too, while a long answer arrives: its end, the stop button, the input; nothing is cut off at the
    side. Who scrolls back to read is not torn away."""
    page = look("slow")
    page.browser.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                         mobile=width < 500)
    page.paste("first " + "word_without_a_break" * 200 + " second third fourth fifth sixth")
    page.find("#send").click()
    page.wait_answer("second")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert page.run("return scrollY") > 0 and page.visible("#stop") == page.visible("#prompt") == 1
    bottom, top = page.run('return [document.querySelector("#log article:last-child").getBoundingClientRect().bottom,'
                           'document.getElementById("form").getBoundingClientRect().top]')
    assert 0 < bottom <= top, "the answer's end is hidden"
    page.run("scrollTo(0, 0)")
    page.wait_answer("fifth")
    assert page.run("return scrollY") == 0 and page.visible("#stop") == 1
    page.find("#stop").click()
    assert page.wait_end() == "Stopped." and page.visible("#status") == 1
