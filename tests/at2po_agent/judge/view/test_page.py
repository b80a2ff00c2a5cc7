"""The page is one file that allows its own script and style; in it, what was read is nothing that could be markup."""

import base64
import gzip
import hashlib
import json
import re
from importlib.resources import files

from at2po_agent.judge.view.page import SCRIPTS, write_page

HOSTILE = "</script><img src=x onerror=alert(1)> %SCRIPT% \" ' & \u202e <!-- ]]>"
WEB = files("at2po_agent.judge.view") / "web"


def written(tmp_path, title="t"):
    write_page(tmp_path / "page.html", title, {"kind": "x", "said": HOSTILE}, [[HOSTILE], ["b"]])
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_was_read_comes_back_and_is_nowhere_as_it_was(tmp_path):
    page = written(tmp_path)
    assert "onerror" not in page
    blocks = dict(re.findall(r'<script type="text/plain" id="chunk-(\w+)">([A-Za-z0-9+/=]*)</script>', page))
    read = {name: json.loads(gzip.decompress(base64.b64decode(block))) for name, block in blocks.items()}
    assert "exact match" in read["head"].pop("glossary")["em"].lower()
    assert read == {"head": {"kind": "x", "said": HOSTILE}, "0": [HOSTILE], "1": ["b"]}


def test_a_title_is_escaped_and_not_filled_in(tmp_path):
    page = written(tmp_path, HOSTILE)
    title = re.search("<title>(.*)</title>", page)
    assert title
    assert title[1].startswith("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt; %SCRIPT% &quot;")


def test_the_policy_allows_the_script_and_the_style_of_the_page_and_nothing_else(tmp_path):
    page = written(tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_nothing_is_loaded_from_anywhere(tmp_path):
    page = written(tmp_path).replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\(|\bimport\s*\(", page)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) == {"data:,", "#list"}


def test_the_script_never_makes_markup_from_text():
    script = "".join((WEB / name).read_text(encoding="utf-8") for name in SCRIPTS)
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|\beval\b|Function\(|srcdoc|fetch\(|XMLHttp"
    )
    assert not re.search(forbidden, script)
    assert not re.search(r"</script|<!--", script)


def test_the_same_run_gives_the_same_file(tmp_path):
    assert written(tmp_path) == written(tmp_path)
