"""Open every page of the built site in headless Chromium and list what is wrong: `python tools/check_docs.py`.

Chromium is driven by its DevTools protocol over one websocket. The site is served below a folder name on localhost, so that
links from the root of the host are found to be broken too, and no other host can be reached."""
from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import websocket
from fastcore.script import call_parse

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium")
BROWSERS_AT_ONCE = 2
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-allow-origins=*",
         "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1400,1000")
PROBE = r"""(async () => {
  const wait = (e, ...names) => new Promise(r => { names.forEach(n => e.addEventListener(n, r)); setTimeout(r, 5000); });
  document.querySelectorAll('details').forEach(d => d.open = true);
  const images = [...document.images];
  images.forEach(i => i.loading = 'eager');
  await Promise.all(images.map(i => i.complete || wait(i, 'load', 'error')));
  const media = [...document.querySelectorAll('audio, video')];
  media.forEach(m => { m.preload = 'metadata'; });
  await Promise.all(media.map(m => m.error || m.readyState || m.networkState == 3 || wait(m, 'loadedmetadata', 'error', 'emptied')));
  await document.fonts.ready;
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode())
    if (!walker.currentNode.parentElement.closest('pre, code, script, style, noscript, textarea, annotation'))
      texts.push(walker.currentNode.data);
  const raw = /\\[()[\]]|\\(?!u[0-9a-f]{4})[a-zA-Z]{2,}|\$\$|\$[^\s$]([^$\n]*[^\s$])?\$/;
  const short = s => (s || '').trim().slice(0, 100);
  return {
    pictures: images.length, formulas: document.querySelectorAll('math, .katex, mjx-container').length,
    broken: images.filter(i => !i.naturalWidth).map(i => short(i.getAttribute('src'))),
    silent: media.filter(m => m.error || (!m.readyState && (m.getClientRects().length || m.querySelector("source") || m.hasAttribute("src")))).map(m => short(m.currentSrc || m.outerHTML)),
    math: [...texts.filter(t => raw.test(t)).map(short),
           ...[...document.querySelectorAll('merror, mjx-merror, .katex-error')].map(e => short(e.textContent)),
           ...[...document.querySelectorAll('.math')].filter(e => !e.querySelector('math, .katex, mjx-container')).map(e => short(e.textContent))],
    links: [...document.querySelectorAll('a[href], area[href]')].map(a => [a.getAttribute('href'), a.href]),
    ids: [...document.querySelectorAll('[id], a[name]')].flatMap(e => [e.id, e.getAttribute('name')]).filter(Boolean),
  };
})()"""


class Handler(http.server.SimpleHTTPRequestHandler):
    "The site below /site/, and nothing elsewhere."

    def translate_path(self, path):
        return super().translate_path(path.removeprefix("/site")) if path.startswith("/site/") else os.path.join(os.devnull, "none")

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(folder):
    "The address of `folder` on localhost."
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/site/"
    finally:
        server.shutdown()
        server.server_close()


def find_browser():
    "The path of Chromium: $CHROMIUM, or one of the usual names."
    found = next(filter(None, map(shutil.which, filter(None, (os.environ.get("CHROMIUM"), *BROWSERS)))), None)
    return found or sys.exit("no Chromium or Chrome was found: install one, or name it in the environment variable CHROMIUM")


@contextlib.contextmanager
def browser(*more):
    "A page of a new headless Chromium, started with more flags, as a websocket of its DevTools protocol."
    with tempfile.TemporaryDirectory(prefix="ser_nb-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([find_browser(), *FLAGS, *more, f"--user-data-dir={profile}", "about:blank"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port, end = Path(profile) / "DevToolsActivePort", time.monotonic() + 60
            while not (port.exists() and port.read_text().strip()):
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit("Chromium did not start")
                time.sleep(0.05)
            address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            pages = [t for t in json.load(opener.open(address, timeout=30)) if t["type"] == "page"]
            with contextlib.closing(websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=60, http_no_proxy=["*"])) as socket:
                yield socket
        finally:
            process.terminate()
            process.wait(timeout=20)


class Page:
    "Sends commands and keeps the events that arrive meanwhile."

    def __init__(self, socket):
        self.socket, self.events, self.last = socket, [], 0
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Network.setCacheDisabled", cacheDisabled=True)
        self.send("Page.setLifecycleEventsEnabled", enabled=True)

    def receive(self):
        message = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def send(self, method, **params):
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": params}))
        while (message := self.receive()).get("id") != self.last:
            pass
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def evaluate(self, expression):
        "The value of an expression on the page."
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"the check itself failed: {result['exceptionDetails']}")
        return result["result"].get("value")

    def open(self, url):
        "Load the page at `url`."
        self.events.clear()
        loader = self.send("Page.navigate", url=url)["loaderId"]
        while not any(p.get("loaderId") == loader and p.get("name") == "load" for _, p in self.events):
            self.receive()

    def visit(self, url):
        "What the probe found on the page at `url`, and the events until it was quiet."
        self.open(url)
        found = self.evaluate(PROBE)
        self.evaluate("new Promise(r => setTimeout(r, 200))")
        return found, list(self.events)


ALONE = ("listen.html",)  # pages that stand beside the book
LOOKS = {"wide": (1400, "light"), "wide, dark": (1400, "dark"), "phone, dark": (390, "dark"), "phone": (390, "light")}
AXE = """axe.run(document, {resultTypes: ['violations'], %s}).then(r =>
  r.violations.map(v => [v.id, v.nodes.length, v.nodes.slice(0, 2).map(n => n.target.join(' ') + ' ' + n.html.slice(0, 90)).join(' | ')]))"""
STRUCTURE = """runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'],
  rules: {'color-contrast': {enabled: false}, 'link-in-text-block': {enabled: false}}"""
PHONE = "runOnly: {type: 'rule', values: ['scrollable-region-focusable', 'target-size']}"
COLOURS = "runOnly: {type: 'rule', values: ['color-contrast', 'link-in-text-block']}"
STILL = """{ const style = document.createElement('style');
  style.textContent = '*, *::before, *::after { transition: none !important; animation: none !important; }';
  document.head.append(style); }"""  # colours that still change are nobody's
SETTLED = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r, 50))))"
NEW_COLOURS = """(look => {  // mark the first text of each colour, size and ground; what the tab has seen on a page before is left out
  const seen = new Set(JSON.parse(sessionStorage.getItem('seen') || '[]')), grounds = new Map();
  const colour = e => { const s = getComputedStyle(e); return [s.color, s.fontSize, s.fontWeight, s.textDecorationLine].join(); };
  const ground = e => {
    if (!e) return '';
    if (!grounds.has(e)) {
      const s = getComputedStyle(e), seen_through = s.opacity == 1 && s.backgroundImage == 'none' && s.backgroundColor == 'rgba(0, 0, 0, 0)';
      grounds.set(e, ground(e.parentElement) + (seen_through ? '' : [s.opacity, s.backgroundImage, s.backgroundColor].join()));
    }
    return grounds.get(e);
  };
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(t => t.nodeType == 3 && t.data.trim()) || !e.getClientRects().length) continue;
    const key = [look, colour(e), e.localName == 'a' ? colour(e.parentElement) : '', ground(e)].join(' ');
    if (!seen.has(key)) { seen.add(key); e.dataset.look = ''; }
  }
  sessionStorage.setItem('seen', JSON.stringify([...seen]));
  return document.querySelectorAll('[data-look]').length;
})(%s)"""
FLAT = """(() => {  // most elements of a page colour a word of code or make up a formula
  for (const e of document.querySelectorAll('pre > code, math')) if (!e.querySelector('[data-look], a')) e.textContent = e.textContent;
})()"""
ONLY_NEW = """(() => {  // takes the rest away, so that each look is quick
  const kept = new Set([...document.querySelectorAll('[data-look]')].flatMap(e => { const up = [e]; while (e = e.parentElement) up.push(e); return up; }));
  for (const e of [...document.body.querySelectorAll('*')]) if (!kept.has(e) && !e.closest('[data-look]')) e.remove();
})()"""
SHAPE = """(() => {
  const shown = e => e && e.getClientRects().length > 0;
  const images = [...document.querySelectorAll('main img')];
  return {
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    mute: images.filter(i => !(i.getAttribute('alt') || '').trim() && i.getAttribute('role') != 'presentation').length,
    next: document.querySelectorAll('.page-navigation a[href]').length,
    contents: shown(document.querySelector('details.contents > summary')),
    headings: document.querySelectorAll('main h2, main h3').length,
  };
})()"""


def look(page, width, scheme):
    "The open page as a screen of this width and scheme shows it."
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.evaluate(SETTLED)


def axe_problems(page, name, rules):
    "What axe-core finds on the open page by some of its rules."
    for rule, n, where in page.evaluate(AXE % rules):
        yield f"{name}: {rule}, {n} times, such as {where}"


def shape_problems(shape, name, width):
    "What a reader would miss on a page that belongs to the book."
    if shape["wide"] > 1:
        yield f"{name}: {shape['wide']} pixels wider than the screen"
    if width < 500 and shape["headings"] > 1 and not shape["contents"]:
        yield f"{name}: no table of contents to open"
    if width > 500 and shape["mute"]:
        yield f"{shape['mute']} pictures without words"
    if width > 500 and not shape["next"]:
        yield "neither a next nor a previous page"


def look_problems(page, axe, in_book=True):
    "What axe-core finds on the open page at two widths, in light and dark, and what a reader would miss there."
    page.evaluate(STILL)
    new = 0
    for name, how in LOOKS.items():
        look(page, *how)
        new = page.evaluate(NEW_COLOURS % json.dumps(name))
    page.evaluate(axe)
    page.evaluate(FLAT)
    for name, rules in (("wide", STRUCTURE), ("phone", PHONE)):
        look(page, *LOOKS[name])
        shape = page.evaluate(SHAPE)
        yield from shape_problems(shape, name, LOOKS[name][0]) if in_book else ()
        yield from axe_problems(page, name, rules)
    if new:
        page.evaluate(ONLY_NEW)
        for name, how in LOOKS.items():
            look(page, *how)
            yield from axe_problems(page, name, COLOURS)
    page.send("Emulation.clearDeviceMetricsOverride")
    page.send("Emulation.setEmulatedMedia", features=[])


def is_icon(url):
    "The browser asks for it of itself, whether or not a page names one."
    return url.endswith("/favicon.ico")


def event_problems(events, site):
    "Console errors, exceptions, failed requests and requests that leave the site."
    urls = {}
    for method, p in events:
        if method == "Network.requestWillBeSent":
            url = urls[p["requestId"]] = p["request"]["url"]
            if not url.startswith((site, "data:", "blob:", "about:")) and not is_icon(url):
                yield f"request outside the site: {url[:150]}"
        elif method == "Network.responseReceived" and p["response"]["status"] >= 400 and not is_icon(p["response"]["url"]):
            yield f"status {p['response']['status']}: {p['response']['url']}"
        elif method == "Network.loadingFailed" and not p.get("canceled") and not is_icon(urls.get(p["requestId"], "")):
            yield f"failed request: {urls.get(p['requestId'], '?')[:150]} ({p['errorText']})"
        elif method == "Runtime.exceptionThrown":
            details = p["exceptionDetails"]
            yield f"exception: {details.get('exception', {}).get('description', details['text']).splitlines()[0]}"
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "assert"):
            yield "console error: " + " ".join(str(a.get("value", a.get("description", ""))) for a in p["args"])
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error" and not is_icon(p["entry"].get("url", "")):
            yield f"logged error: {p['entry']['text']} {p['entry'].get('url', '')[:150]}"


def link_problems(found, site, folder, ids):
    "Links inside the site whose page or anchor is missing."
    for written, full in found["links"]:
        if urlsplit(full).netloc != urlsplit(site).netloc:
            continue
        url, anchor = urldefrag(full)
        target = unquote(url.removeprefix(site)) if url.startswith(site) else "\0"
        target = f"{target}index.html" if target == "" or target.endswith("/") else target
        if target == "\0" or not (folder / target).is_file():
            yield f"broken link: {written}"
        elif anchor and target in ids and unquote(anchor) not in ids[target] and anchor not in ids[target] | {"top"}:
            yield f"broken anchor: {written}"


def visit_all(site, names, axe, alone):
    "What a browser of its own finds on some pages: {page: (the probe's findings, problems)}."
    found = {}
    with browser() as socket:
        page = Page(socket)
        for name in names:
            seen, events = page.visit(site + name)
            problems = list(dict.fromkeys(event_problems(events, site)))
            if axe:
                problems += look_problems(page, axe, not alone and name not in ALONE)
            found[name] = seen, problems
    return found


def font_problems(folder):
    "Fonts that a page loads and that are too heavy."
    for path in folder.rglob("*.woff*"):
        if path.stat().st_size > 300_000:
            yield f"{path.relative_to(folder)}: {path.stat().st_size / 1000:.0f} kB, and 300 are enough for formulas"


def check(folder, axe="", alone=False):
    "All problems as {page: [problem...]}, and the probe's findings as {page: ...}; `axe` is the text of axe-core."
    names = sorted((p for p in folder.rglob("*.html")), key=lambda p: p.stat().st_size)
    names = [p.relative_to(folder).as_posix() for p in names]
    with served(folder) as site, ThreadPoolExecutor(BROWSERS_AT_ONCE) as pool:
        parts = pool.map(lambda i: visit_all(site, names[i::BROWSERS_AT_ONCE], axe, alone), range(BROWSERS_AT_ONCE))
        both = {name: seen for part in parts for name, seen in part.items()}
        found, problems = ({name: both[name][i] for name in sorted(both)} for i in (0, 1))
        problems[names[0]] += font_problems(folder)
        ids = {name: set(f["ids"]) for name, f in found.items()}
        for name, f in found.items():
            problems[name] += [f"missing picture: {src}" for src in f["broken"]]
            problems[name] += [f"sound that can't be played: {src}" for src in f["silent"]]
            problems[name] += [f"formula not rendered: {text}" for text in dict.fromkeys(f["math"])]
            problems[name] += dict.fromkeys(link_problems(f, site, folder, ids))
    return problems, found


@call_parse
def main(
    folder: str = "_docs",  # the built site; relative to the project
    axe: str = "",  # axe.min.js of axe-core, for the rules of accessibility; empty: these are not looked at
    alone: bool = False,  # the pages are reports, which have no next page and no table of contents
):
    "Open every page of the built site in headless Chromium; exit with 1 where anything is wrong."
    folder = (ROOT / folder).resolve()
    if not alone and not (folder / "index.html").is_file():
        sys.exit(f"there is no site in {folder}: build it with `python tools/docs.py`")
    problems, found = check(folder, Path(axe).read_text(encoding="utf-8") if axe else "", alone)
    for name, f in found.items():
        print(f"{name}: {f['pictures']} pictures, {f['formulas']} formulas, {len(f['links'])} links, {len(problems[name])} problems")
        for problem in problems[name]:
            print(f"  {problem}")
    if any(problems.values()):
        sys.exit(f"{sum(map(len, problems.values()))} problems on {sum(map(bool, problems.values()))} of {len(found)} pages")
    print(f"{len(found)} pages, nothing wrong")
