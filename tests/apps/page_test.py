"""The pages in a browser, as people meet them: the report, the live page while workers die, the list of jobs.

usage: page_test.py PATH_TO_TEMPO PATH_TO_TEMPO_WORKER
Needs Chromium, its driver and Selenium (tools/setup.sh --browser). Where one is missing it says so and ends with exit code 77.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from start_once import START_ONCE

SKIPPED = 77


def skip(reason):
    print(f"page_test: SKIPPED: {reason}; tools/setup.sh --browser installs what is missing", flush=True)
    sys.exit(SKIPPED)


try:
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    skip("there is no Selenium for Python")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not CHROMIUM or not DRIVER:
    skip("there is no chromium or no chromedriver")

TEMPO, WORKER = sys.argv[1:3]
SMALL = ["--model", "resnet20", "--image-size", "16", "--train-size", "64", "--test-size", "16", "--batch-size", "16",
         "--tee-threads", "1", "--offload", "all", "--lr", "0.001"]
#: Elements that a keyboard reaches must show that they have the focus.
OUTLINE = "const s = getComputedStyle(document.activeElement); return [document.activeElement.tagName, s.outlineStyle, s.outlineWidth]"


def open_browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(service=webdriver.chrome.service.Service(DRIVER), options=options)


def wait_for(what, is_there, seconds=30):
    deadline = time.time() + seconds
    while time.time() < deadline:
        if found := is_there():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come within {seconds} s")


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        cls.environment = {**os.environ, **START_ONCE, "HOME": str(cls.path), "XDG_CONFIG_HOME": str(cls.path / "config")}
        for name, workers in (("blinded", "inprocess:"), ("local", "local")):
            cls.tempo("train", *SMALL, "--steps", 6, "--workers", workers, "--out", cls.path / name)
        cls.browser = open_browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.quit()
        cls.folder.cleanup()

    @classmethod
    def tempo(cls, *arguments, code=0):
        done = subprocess.run([TEMPO, *map(str, arguments)], capture_output=True, text=True, env=cls.environment, timeout=120)
        assert done.returncode == code, f"exit code {done.returncode}: {done.stderr}"
        return done

    def start(self, *command):
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def open(self, address, width=1400, scheme="light"):
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.browser.get_log("browser")
        self.browser.get(address)
        wait_for("the page", lambda: self.browser.find_elements(By.CSS_SELECTOR, "main > *"))

    def script(self, text):
        return self.browser.execute_script(text)

    def text(self, selector):
        """Read in one go: the page may put another element in its place meanwhile."""
        return self.browser.execute_script("return document.querySelector(arguments[0])?.innerText || ''", selector)

    def no_complaints(self):
        self.assertEqual([entry["message"] for entry in self.browser.get_log("browser")], [])

    def no_sideways(self):
        self.assertLessEqual(self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0)

    def drawn(self):
        """How many charts have something else than their background on their canvas."""
        return self.script("""return [...document.querySelectorAll('.chart canvas')].filter((c) => {
            const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            for (let i = 3; i < pixels.length; i += 4) if (pixels[i]) return true;
            return false;
        }).length""")

    def report(self, *runs):
        page = self.path / "page.html"
        done = self.tempo("report", *(self.path / run for run in runs), "--out", page)
        self.assertEqual(done.stdout, f"wrote {page}\n")
        return page.as_uri()

    def test_a_report_shows_charts_figures_events_and_settings(self):
        self.open(self.report("blinded"))
        titles = [title.text for title in self.browser.find_elements(By.CSS_SELECTOR, ".chart h3")]
        self.assertEqual(titles, ["Loss", "Test accuracy", "Time of a step, by part", "Time of a step", "Bytes a step",
                                  "Results of workers a step", "Workers", "Memory of the master"])
        self.assertEqual(self.drawn(), len(titles))
        text = self.text("main")
        for wanted in ("Steps\n6", "Results found wrong\n0", "the run began", "inprocess:", "Hidden from the workers",
                       "nothing is proven (protection=oblique)"):
            self.assertIn(wanted, text)
        self.assertNotIn("NaN", text)
        self.no_complaints()

    def test_two_runs_are_side_by_side_and_what_is_missing_is_said(self):
        old = self.path / "old"
        old.mkdir()
        fields = ("step", "epoch", "loss", "learning_rate", "gradient_norm", "seconds", "tee_cpu_seconds", "samples_per_second")
        lines = [json.loads(line) for line in (self.path / "local/metrics.jsonl").read_text().splitlines()]
        kept = [{name: line[name] for name in fields} for line in lines if "loss" in line]
        (old / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.open(self.report("blinded", "local", "old"))
        text = self.text("main")
        for wanted in ("an older version of Tempo wrote it", "There is no config.toml", "There is no summary.json",
                       "Nothing was sent to workers"):
            self.assertIn(wanted, text)
        labels = [button.text for button in self.browser.find_elements(By.CSS_SELECTOR, ".chart:first-child .legend button")]
        self.assertGreaterEqual(len(labels), 5, labels)
        self.assertEqual(self.drawn(), len(self.browser.find_elements(By.CSS_SELECTOR, ".chart")))
        self.no_complaints()
        self.open(self.browser.current_url, width=360)
        self.no_sideways()

    def test_pages_fit_a_phone_and_follow_the_colour_scheme(self):
        page = self.report("blinded")
        colours = set()
        for scheme in ("light", "dark"):
            self.open(page, 360, scheme)
            self.no_sideways()
            colours.add(self.script("return getComputedStyle(document.body).backgroundColor"))
            self.assertLessEqual(self.script("return Math.max(...[...document.querySelectorAll('.uplot')].map((u) => u.getBoundingClientRect().right))"), 360)
        self.assertEqual(len(colours), 2)
        self.no_complaints()

    def test_the_keyboard_alone_is_enough(self):
        self.open(self.report("blinded"))
        reached = []
        for _ in range(40):
            ActionChains(self.browser).send_keys(Keys.TAB).perform()
            tag, style, width = self.script(OUTLINE)
            self.assertTrue(tag == "MAIN" or (style != "none" and float(width[:-2]) >= 2), f"{tag}: focus is not to be seen")
            reached.append(self.script("return document.activeElement.className || document.activeElement.tagName"))
            if self.script("return document.activeElement.getAttribute('role')") == "slider":
                break
        self.assertEqual(reached[0], "skip")
        self.assertIn("slider", self.script("return document.activeElement.getAttribute('role')"), reached)
        keys = ActionChains(self.browser)
        keys.send_keys(Keys.HOME, Keys.ARROW_RIGHT).perform()
        self.assertRegex(self.script("return document.activeElement.getAttribute('aria-valuetext')"), r"^step 2: training \d")
        shown = self.script("return [...document.querySelectorAll('[role=slider]')].map((s) => s.getAttribute('aria-valuenow'))")
        self.assertGreaterEqual(shown.count("2"), 6, f"the cursor is not the same in all charts: {shown}")
        ActionChains(self.browser).send_keys(Keys.TAB, Keys.ENTER).perform()
        self.assertTrue(self.script("return document.activeElement.parentElement.open"), "the table did not open")
        # a browser says later, in an event of its own, that a table opened; the page fills the table then
        rows = wait_for("rows of the table", lambda: self.browser.find_elements(By.CSS_SELECTOR, ".chart:first-child tbody tr"))
        self.assertEqual(len(rows), 6)
        legend = self.browser.find_element(By.CSS_SELECTOR, ".legend button")
        legend.send_keys(Keys.SPACE)
        self.assertEqual(legend.get_attribute("aria-pressed"), "false")
        self.no_complaints()

    def test_live_a_worker_is_lost_and_the_page_says_so(self):
        workers = []
        for number in range(2):
            uri = f"shm://tempo-page-{os.getpid()}-{number}"
            workers.append(self.start(WORKER, "--listen", uri, "--threads", "1"))
            self.assertIn("listening on", workers[-1].stdout.readline())
        uris = ",".join(f"shm://tempo-page-{os.getpid()}-{number}" for number in range(2))
        run = self.start(TEMPO, "train", *SMALL, "--steps", 100000, "--checkpoint-interval", 5, "--workers", uris, "--page", 0, "--out", self.path / "live")
        lines = iter(run.stdout.readline, "")
        address = next(found[1] for line in lines if (found := re.search(r"page at (http://localhost:\d+/)", line)))
        self.open(address)
        state = lambda: self.text("#state")
        step = lambda: int((re.search(r"Step ([\d,]+)", state()) or [0, "0"])[1].replace(",", ""))
        seen = wait_for("the third step", lambda: step() >= 3 and step())
        wait_for("a further step", lambda: step() > seen)
        wait_for("charts", lambda: self.drawn() >= 6)
        workers[1].kill()
        wait_for("the loss of a worker", lambda: "worker lost" in self.text(".events"))
        seen = step()
        wait_for("a step after the loss", lambda: step() > seen + 1)
        self.open(address, 360, "dark")
        self.no_sideways()
        pause = self.browser.find_element(By.XPATH, "//button[.='Pause updating']")
        pause.send_keys(Keys.ENTER)
        wait_for("the pause", lambda: "Paused" in state())
        pause.send_keys(Keys.ENTER)
        self.no_complaints()
        run.kill()
        wait_for("word of the end", lambda: "the run has ended" in state())
        events = [json.loads(line) for line in (self.path / "live/metrics.jsonl").read_text().splitlines()[:-1]]
        self.assertIn("worker_lost", [event.get("event") for event in events])

    def test_the_list_of_jobs(self):
        if "serve" not in self.tempo("--help").stdout:
            self.skipTest("built without gRPC")
        service = self.start(TEMPO, "serve", "--listen", "localhost:0", "--state", self.path / "jobs", "--tee", "insecure-simulated", "--page", 0)
        lines = iter(service.stdout.readline, "")
        address = next(found[1] for line in lines if (found := re.search(r"page at (http://localhost:\d+/)", line)))
        self.open(address, 360)
        self.assertIn("There is no job.", self.text("main"))
        wait_for("the list", lambda: "0 jobs. Updated" in self.text("#state"))
        self.no_sideways()
        self.no_complaints()

    def test_bad_input_is_one_line_and_leaves_nothing(self):
        empty, broken = self.path / "empty", self.path / "broken"
        empty.mkdir()
        broken.mkdir()
        (broken / "metrics.jsonl").write_text('{"step":1,"loss":1}\n{"step":2,\n{"step":3,"loss":1}\n')
        out = self.path / "no.html"
        for run, says in ((self.path / "absent", "absent: is not there, expected the folder of a run"),
                          (broken / "metrics.jsonl", "is no folder, expected that of a run"),
                          (empty, "metrics.jsonl: is not there, expected the metrics of a run"),
                          (broken, 'metrics.jsonl: line 2: got "{"step":2,", expected a JSON object of a step')):
            done = self.tempo("report", self.path / "blinded", run, "--out", out, code=2)
            self.assertIn(says, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertFalse(out.exists())
        self.assertEqual([path.name for path in self.path.glob("no.html*")], [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
