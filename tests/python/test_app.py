"""The page of `tessera app`, driven in Debian's Chromium: what is dropped, seen, downloaded and refused."""

import base64
import http.client
import io
import json
import os
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tessera
from test_tessera import HAN, REVIEWS, UNET, picture

pytest.importorskip("gradio", reason="the extra [app] is not installed")
tifffile = pytest.importorskip("tifffile")
Image = pytest.importorskip("PIL.Image")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe
CHROMIUM = shutil.which("chromium")
if not CHROMIUM:
    pytest.skip("Debian's package chromium is not installed", allow_module_level=True)

# Written into a sitecustomize.py of the server: tells every address outside this machine that it wants.
WATCH = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = arguments[1] if event == "socket.connect" else arguments[0]
        host = host[0] if isinstance(host, tuple) else host
        if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", None):
            with open(os.environ["TESSERA_WATCH"], "a") as file:
                print(event, host, file=file)
sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "sitecustomize.py").write_text(WATCH)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(folder), "TESSERA_WATCH": str(folder / "outside"), "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("tessera"), "app", "-m", UNET, "-m", HAN, "--device", "cpu", "--max-file", "8mb",
         "--port", str(port)], env=environment, stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    assert f"http://127.0.0.1:{port}/" in said
    yield port
    process.terminate()
    assert process.wait(60) == 0
    assert not (folder / "outside").exists(), (folder / "outside").read_text()
    assert not list(folder.glob("tessera-app-*")), "uploads are left behind"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as start:
        chromium = start.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(server, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    page.set_default_timeout(120000)  # a busy machine is waited for
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith((f"http://127.0.0.1:{server}/", "data:", "blob:"))
            else wrong.append(request.url))
    page.goto(f"http://127.0.0.1:{server}/")
    page.get_by_role("tab", name="unet_isbi").wait_for()
    yield page
    page.close()
    assert wrong == []


def drop(page, kind, name, data):
    """Drops a file of these bytes on the page's field for an image or a text, as a mouse would."""
    transfer = page.evaluate_handle(
        """([name, data]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
            return transfer;
        }""", [name, base64.b64encode(data).decode()])
    page.locator(f".{kind}-file button.upload-container").dispatch_event("drop", {"dataTransfer": transfer})


def download(page, ending):
    with page.expect_download() as got:
        page.locator(f"a[download$='{ending}']").first.click()
    return Path(got.value.path()).read_bytes()


def encoded(image, kind="png"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def keep_screenshot(page, name):
    folder = os.environ.get("TESSERA_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def check_accessibility(page):
    found = Axe().run(page).response["violations"]
    assert [] == [(one["id"], one["help"], [node["html"][:200] for node in one["nodes"]]) for one in found]


def shown(page):
    """The picture on the page, as pixels."""
    source = page.locator(".view img").first.get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(page.request.get(source).body())).convert("RGB"))


def until(page, seen):
    """Waits for a picture of which `seen` is true."""
    for _ in range(300):
        if seen(shown(page)):
            return
        page.wait_for_timeout(100)
    raise AssertionError("the picture did not change as it should")


def test_an_image_is_dropped_seen_and_downloaded(page):
    image = picture(120, 160)
    expected = tessera.load(UNET, device="cpu")(image)
    drop(page, "image", "cells.png", encoded(image))
    page.get_by_text("160 x 120 pixels, page 1 of 1").wait_for()
    assert f"{expected.mask.mean():.2%}" in page.locator(".tessera-legend").inner_text()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(download(page, "mask.png")))), expected.mask)
    labels = tifffile.imread(io.BytesIO(download(page, "labels.tif")))
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, expected.labels())
    rows = download(page, "objects.csv").decode().splitlines()
    assert rows[0].startswith("label,class,area,bbox-0") and len(rows) == len(expected.objects()) + 1
    assert json.loads(download(page, "run.json"))["classes"] == ["membrane", "cell"]

    half = shown(page)
    grey = np.repeat(image[:, :, None], 3, axis=2)
    inside = expected.mask == 1
    np.testing.assert_array_equal(half[~inside], grey[~inside])
    np.testing.assert_allclose(half[inside], grey[inside] / 2 + np.array([230, 159, 0]) / 2, atol=1)
    keep_screenshot(page, "image")
    check_accessibility(page)

    page.get_by_label("number input for Opacity").fill("0")
    page.get_by_label("number input for Opacity").press("Enter")
    until(page, lambda pixels: np.array_equal(pixels, grey))
    page.locator(".objects [role='gridcell']").first.click()
    until(page, lambda pixels: (pixels == (255, 0, 255)).all(axis=2).any())


def test_pages_of_a_stack_are_chosen(page):
    stack = np.stack([picture(70, 90, np.uint16), np.ascontiguousarray(picture(70, 90, np.uint16)[::-1])])
    file = io.BytesIO()
    tifffile.imwrite(file, stack, imagej=True)
    drop(page, "image", "stack.tif", file.getvalue())
    page.get_by_text("90 x 70 pixels, page 1 of 2").wait_for()
    page.get_by_label("Page of a stack").fill("2")
    page.get_by_label("Page of a stack").press("Enter")
    page.get_by_text("90 x 70 pixels, page 2 of 2").wait_for()
    page.locator("a[download$='page2.mask.png']").wait_for()
    expected = tessera.load(UNET, device="cpu")(stack[1]).mask
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(download(page, "page2.mask.png")))), expected)
    page.get_by_label("Page of a stack").fill("3")
    page.get_by_label("Page of a stack").press("Enter")
    page.get_by_text("there is no page 3").wait_for()


def as_tiff(image):
    file = io.BytesIO()
    tifffile.imwrite(file, image)
    return file.getvalue()


WITH_NAN = picture(32, 32, np.float32)
WITH_NAN[3, 4] = np.nan


@pytest.mark.parametrize("name, data, said", [
    ("nan.tif", as_tiff(WITH_NAN), "1 values are NaN"),
    ("signed.tif", as_tiff(np.full((8, 8), -3, np.int16)), "below zero"),
    ("noise.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "it is no PNG"),
    ("cut.tif", as_tiff(WITH_NAN)[:200], "cannot be read"),
])
def test_a_bad_image_is_refused_with_its_reason(page, name, data, said):
    drop(page, "image", name, data)
    page.get_by_text(said).first.wait_for()
    page.get_by_label("Clear").first.click()
    drop(page, "image", "good.png", encoded(picture(40, 50)))
    page.get_by_text("50 x 40 pixels").wait_for()


def test_a_file_of_ten_gigabytes_is_refused(page, server, tmp_path):
    with open(tmp_path / "huge.tif", "wb") as file:
        file.truncate(10 * 2**30)
    page.locator("input[type=file]").first.set_input_files(tmp_path / "huge.tif")
    page.get_by_text("exceed the maximum allowed size").first.wait_for()

    # The server does not rely on the page: it ends an upload at its limit.
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=60)
    edge = b"--edge\r\nContent-Disposition: form-data; name=\"files\"; filename=\"huge.tif\"\r\n\r\n"
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=edge")
    connection.putheader("Content-Length", str(10 * 2**30))
    connection.endheaders(edge)
    sent = 0
    try:
        while sent < 1024 and not select.select([connection.sock], [], [], 0)[0]:
            connection.send(b"\0" * 2**20)
            sent += 1
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may hang up before it is listened to
    assert sent < 1024  # of 10,240 MB
    assert connection.getresponse().status == 413
    connection.close()


def test_a_text_shows_what_counted(page):
    page.get_by_role("tab", name="han_imdb").click()
    page.get_by_label("Text", exact=True).fill(REVIEWS[0] + " <script>alert(1)</script> zqxj")
    page.get_by_role("button", name="Classify").click()
    page.locator(".tessera-text .word").first.wait_for()
    assert page.locator(".tessera-text").inner_text().startswith(REVIEWS[0])
    assert page.locator(".tessera-text script").count() == 0
    assert page.locator(".tessera-text .unknown").count() > 0
    answer = tessera.load(HAN, device="cpu")(REVIEWS[0] + " <script>alert(1)</script> zqxj")
    stored = json.loads(download(page, "answer.json"))
    assert stored["label"] == answer.label
    assert stored["sentences"][0]["words"][0]["weight"] == pytest.approx(answer.sentences[0].words[0].weight)
    keep_screenshot(page, "text")
    check_accessibility(page)

    drop(page, "text", "review.txt", REVIEWS[1].encode())
    page.get_by_text("Dull", exact=True).wait_for()
    page.get_by_label("Text", exact=True).fill(" ... ")
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("no words").first.wait_for()


def test_a_file_that_is_no_text_is_refused(page):
    page.get_by_role("tab", name="han_imdb").click()
    drop(page, "text", "noise.txt", b"\xff\x00\x81")
    page.get_by_text("no text in UTF-8").first.wait_for()


def test_the_page_listens_on_loopback_alone(server):
    addresses = {one[4][0] for one in socket.getaddrinfo(socket.gethostname(), server, socket.AF_INET)}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A" and int(local.split(":")[1], 16) == server:
            assert local.split(":")[0] == "0100007F"
    assert addresses


def test_what_is_missing_is_said():
    command = Path(sys.executable).with_name("tessera")
    done = subprocess.run([command, "app"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--model" in done.stderr
    done = subprocess.run([command, "app", "-m", "absent.safetensors"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "absent.safetensors" in done.stderr
    script = "import sys; sys.modules['gradio'] = None; from tessera.app import main; main(['-m', 'x'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "tessera-engine[app]" in done.stderr
