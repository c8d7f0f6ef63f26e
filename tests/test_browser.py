"""Notebook 00 in JupyterLab in a real browser: it runs, its slider and its live panel work, nothing leaves the machine.

The page is driven through JupyterLab's own commands (`--expose-app-in-browser`): clicks in its menus before the kernel
is wired up are lost. Every wait has a limit, and the server is ended with its whole process group.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_MISSING = (
    "no Chromium (apt-get install chromium)"
    if CHROMIUM is None
    else "no playwright (pip install playwright)"
    if importlib.util.find_spec("playwright") is None
    else "no JupyterLab"
    if importlib.util.find_spec("jupyterlab") is None
    else ""
)
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(bool(_MISSING), reason=_MISSING)]

TOKEN = "a-token-for-this-test"
RUN_ALL = """async (path) => {
  const app = window.jupyterapp;
  await app.restored;
  let panel = app.shell.currentWidget;
  for (let i = 0; i < 300 && !(panel && panel.context && panel.context.path === path); i++) {
    await new Promise((done) => setTimeout(done, 100));
    panel = app.shell.currentWidget;
  }
  await panel.context.ready; await panel.revealed; await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  window.wbDone = null;
  app.commands.execute('notebook:run-all-cells').then((ok) => { window.wbDone = String(ok); });
}"""
ASK = """async (code) => {
  let text = '';
  const future = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
  future.onIOPub = (message) => { text += message.content.text || message.content.evalue || ''; };
  await future.done;
  return text.trim();
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of its own (settings, runtime, kernels) on a free port, with copies of the notebooks."""
    home = tmp_path_factory.mktemp("lab")
    work = home / "notebooks"
    work.mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, work)
    (work / "panel.ipynb").write_text(json.dumps(_panel_notebook()))
    _setting(home, "apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False})
    _setting(
        home, "notebook-extension/tracker", {"windowingMode": "none"}
    )  # cells out of sight are in the page too
    places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    env = {
        **os.environ,
        **{f"JUPYTER_{name}": str(home / place) for name, place in places.items()},
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
    ]
    command += [
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={work}",
    ]
    command += [
        "--ServerApp.terminals_enabled=False",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    ]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--expose-app-in-browser"]
    log = home / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(server)


def _setting(home: Path, plugin: str, values: dict) -> None:
    path = home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def _wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not come up: {log.read_text()[-2000:]}")


def _end(server: subprocess.Popen) -> None:
    """End the server and the kernels it started: they share its process group."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sig)
        except ProcessLookupError:
            break
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            continue


@pytest.fixture
def page(lab):
    """A page that remembers console errors and requests to anywhere but the server."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(60_000)
        page.errors, page.outside = [], []
        page.on(
            "console", lambda message: page.errors.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on(
            "request", lambda request: None if _local(request.url, lab) else page.outside.append(request.url)
        )
        page.lab = lab
        yield page
        browser.close()


def _local(url: str, lab: str) -> bool:
    return url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:", "about:"))


def _open_and_run(page, notebook: str) -> None:
    page.goto(f"{page.lab}/lab/tree/{notebook}?token={TOKEN}&reset")
    page.wait_for_function("() => window.jupyterapp !== undefined")
    page.evaluate(RUN_ALL, notebook)


def _finished(page, seconds: float) -> None:
    page.wait_for_function("() => window.wbDone !== null", timeout=seconds * 1000)
    assert page.evaluate("() => window.wbDone") == "true", "a cell raised an error"


def _code(source: str) -> dict:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def _panel_notebook() -> dict:
    """A loop that ends only by the Stop button (or after two minutes), with an update far more often than drawn."""
    cells = [
        _code(
            "import math, time\n"
            "from workbench.plots import LivePanel\n"
            "def records():\n"
            "    try:\n"
            "        for n in range(1, 12001):\n"
            "            time.sleep(0.01)\n"
            "            yield {'success': 1 - math.exp(-n / 150), 'reward': math.sin(n / 9) - 1, 'loss': 1 / n}\n"
            "    finally:\n"
            "        print('generator closed')\n"
            "live = LivePanel(('success', 'reward', 'loss'), title='A loop without end')\n"
            "seen = sum(1 for _ in live.watch(records()))\n"
            "print('stopped', live.stopped, 'kept', seen == len(live.history))"
        ),
        _code("print('the next cell runs')"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}


def _watch_and_stop(page) -> None:
    """The panel moves by itself while the cell runs; Stop, by keyboard, ends it."""
    panel = page.locator(".wb-live")
    panel.wait_for(timeout=120_000)
    page.wait_for_function(
        "() => Number(document.querySelector('.wb-live')?.dataset.steps || 0) >= 5", timeout=60_000
    )
    line = "() => document.querySelector('.wb-live .wb-line').getAttribute('d')"
    first, label = page.evaluate(line), panel.locator("svg").first.get_attribute("aria-label")
    page.wait_for_function(f"(first) => ({line})() !== first", arg=first, timeout=60_000)
    said = "() => document.querySelector('.wb-live svg').getAttribute('aria-label')"  # to a screen reader, less often
    page.wait_for_function(f"(label) => ({said})() !== label", arg=label, timeout=60_000)
    if shots := os.environ.get("WORKBENCH_SHOTS"):
        page.screenshot(path=str(Path(shots) / "live.png"))
    panel.locator(".wb-stop").focus()
    page.keyboard.press("Enter")


def test_the_live_panel_moves_and_its_button_stops_it(page):
    _open_and_run(page, "panel.ipynb")
    _watch_and_stop(page)
    _finished(page, 30)
    text = page.locator(".jp-Notebook").inner_text()
    assert "generator closed" in text and "stopped True kept True" in text and "the next cell runs" in text
    still = page.locator(
        ".jp-Notebook figure img[alt^='Training up to step']"
    )  # a picture took the panel's place
    still.wait_for()
    assert "success from" in still.get_attribute("alt")
    assert page.locator(".wb-live").count() == 0
    if shots := os.environ.get("WORKBENCH_SHOTS"):
        page.screenshot(path=str(Path(shots) / "still.png"))
    assert page.errors == [] and page.outside == []


def test_notebook_00_runs_stops_and_its_slider_answers_to_the_keyboard(page):
    if not (ROOT / "notebooks" / "00_start_here.ipynb").exists():
        pytest.skip("there is no notebook 00")
    _open_and_run(page, "00_start_here.ipynb")
    _watch_and_stop(page)
    _finished(page, 300)
    assert page.evaluate(ASK, "print(live.stopped, len(live.history) > 2)") == "True True"
    page.locator(".jp-Notebook figure img[alt^='Training up to step']").first.wait_for()

    handle = page.locator(".jp-Notebook .noUi-handle").first
    cell = page.locator(".jp-Cell", has=page.locator(".noUi-handle")).first
    picture = cell.locator("figure img").first
    picture.wait_for()
    before, value = picture.get_attribute("src"), handle.get_attribute("aria-valuenow")
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([image, before]) => !image.isConnected || image.src !== before",
        arg=[picture.element_handle(), before],
    )
    after = cell.locator("figure img").first
    after.wait_for()
    assert after.get_attribute("src") != before and handle.get_attribute("aria-valuenow") != value
    assert len(after.get_attribute("alt")) > 10
    if shots := os.environ.get("WORKBENCH_SHOTS"):
        handle.scroll_into_view_if_needed()
        page.screenshot(path=str(Path(shots) / "slider.png"))
    assert page.errors == [] and page.outside == []
