"""The page of `examples/browser` in Chromium, against `examples/restore_tiles.py`."""

import functools
import http.server
import io
import re
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import export

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TILES = ROOT / "examples" / "restore_tiles.py"
SIZE, LARGE = 96, 320
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


@pytest.fixture(scope="module")
def program():
    return runpy.run_path(str(ROOT / "examples" / "browser" / "build.py"))


@pytest.fixture(scope="module")
def site(program, tlc_deblurrer, adaptive, tmp_path_factory):
    """The page with small models.

    The adaptive mean with TLC, which WebGPU refuses; and in larger tiles the plain mean
    without TLC, which WebGPU runs.
    """
    if not shutil.which("npm"):
        pytest.skip("needs npm: apt-get install npm")
    folder = tmp_path_factory.mktemp("browser")
    site = folder / "site"
    try:
        program["copy_runtime"](site / "vendor" / "litert")
    except program["BuildError"] as error:
        pytest.skip(f"needs npm's registry: {error}")
    network = tlc_deblurrer.network
    adaptive(network, tlc_train_size=8).save_to_preset(folder / "preset")
    (site / "models").mkdir()
    options = {"tlc_train_size": None, "size": (LARGE, LARGE)}
    good = site / "models" / "good.tflite"
    export.to_litert(tlc_deblurrer, good, "mean", **options)
    make = functools.partial(program["Model"], note="small", size=SIZE)
    models = [
        make("fast", str(folder / "preset"), "Fast", webgpu=True),
        make("good", "", "Good", overlap=32, size=LARGE, webgpu=True),
    ]
    program["build"](site, models)
    return site


@pytest.fixture(scope="module")
def address(site):
    """Function from headers to the address of a server of the page."""
    servers = []

    def serve(headers):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def end_headers(self):
                for name, value in headers.items():
                    self.send_header(name, value)
                super().end_headers()

            def log_message(self, *arguments):
                pass

        handler = functools.partial(Handler, directory=site)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield functools.cache(lambda *items: serve(dict(items)))
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def launch():
    """Function from arguments of Chromium to a browser."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        yield functools.cache(
            lambda *arguments: driver.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", *arguments]
            )
        )


@pytest.fixture
def visit(launch, address):
    """Opens the page; no request may leave its server, no error may escape a script."""
    pages, requests, errors = [], [], []

    def visit(*arguments, headers=(), script=None, query=""):
        page = launch(*arguments).new_page()
        page.set_default_timeout(60_000)
        pages.append(page)
        page.context.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        if script is not None:
            page.add_init_script(script)
        page.goto(address(*headers) + query)
        return page

    yield visit
    for page in pages:
        page.context.close()
    assert errors == []
    allowed = (address(), address(*ISOLATED.items()), "blob:", "data:")
    assert [url for url in requests if not url.startswith(allowed)] == []
    assert requests


def wait(page, text):
    """Waits until the page says something."""
    from playwright.sync_api import expect

    expect(page.locator("#message")).to_have_text(re.compile(text), timeout=60_000)


def photo(height, width, orientation=None):
    """A file in the middle of the range, where nothing is clipped."""
    values = np.random.default_rng(0).uniform(64, 192, (height // 4, width // 4, 3))
    image = Image.fromarray(values.astype("uint8")).resize((width, height))
    file = io.BytesIO()
    if orientation is None:
        image.save(file, "png")
        return {
            "name": "a.photo.png",
            "mimeType": "image/png",
            "buffer": file.getvalue(),
        }
    exif = Image.Exif()
    exif[274] = orientation
    image.save(file, "jpeg", exif=exif, quality=95)
    return {"name": "a.photo.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}


def restored(page, file):
    """The picture that the page saves of a file."""
    page.set_input_files("#photo", file)
    page.click("#start:enabled")
    wait(page, "^Done in")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "a.photo_sharp.png"
    return np.asarray(Image.open(download.value.path())).astype(int)


def restored_by_python(site, model, file, folder, *options):
    (folder / file["name"]).write_bytes(file["buffer"])
    run = [sys.executable, TILES, site / "models" / f"{model}.tflite"]
    run += [folder / file["name"], folder / "out.png", *options]
    subprocess.run(run, check=True, capture_output=True)
    return np.asarray(Image.open(folder / "out.png")).astype(int)


@pytest.mark.parametrize("headers", [{}, ISOLATED], ids=["plain", "isolated"])
def test_saved_picture_is_that_of_python(visit, site, headers, tmp_path):
    page = visit(headers=tuple(headers.items()))
    wait(page, "^Ready")
    assert page.evaluate("crossOriginIsolated") == bool(headers)
    page.context.set_offline(True)
    for file in photo(140, 212), photo(40, 212), photo(140, 100, orientation=6):
        found = restored(page, file)
        expected = restored_by_python(site, "fast", file, tmp_path)
        assert found.shape == (*expected.shape[:2], 3)
        assert np.abs(found - expected).max() <= 2
        blurry = np.asarray(Image.open(io.BytesIO(file["buffer"])).convert("RGB"))
        if blurry.shape == expected.shape:  # not rotated
            assert np.abs(blurry - expected).mean() > 4


def test_the_other_model_has_other_overlaps(visit, site, tmp_path):
    page, file = visit(), photo(340, 400)
    wait(page, "^Ready")
    page.check("input[value=good]")
    found = restored(page, file)
    expected = restored_by_python(site, "good", file, tmp_path, "--overlap", "32")
    assert np.abs(found - expected).max() <= 2
    others = restored_by_python(site, "fast", file, tmp_path)
    assert np.abs(found - others).max() > 4
    check_slider(page)
    # Another model is another picture, which is not there yet.
    page.check("input[value=fast]")
    assert page.is_visible("#start") and not page.is_visible("#slider")


def check_slider(page):
    page.focus("#slider")
    for key, percent in ("Home", "0"), ("End", "100"):
        page.keyboard.press(key)
        assert page.evaluate("getComputedStyle(after).clipPath").endswith(
            f" {percent}%)"
        )
    boxes = [page.locator(name).bounding_box() for name in ("#before", "#after")]
    assert boxes[0] == boxes[1]


def test_webgpu_where_the_file_allows_it(visit, site, tmp_path):
    """Chromium computes WebGPU on the CPU here, which the page uses only when asked."""
    page, file = visit("--enable-unsafe-webgpu", query="?webgpu"), photo(140, 100)
    if not page.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
        pytest.skip("needs a Chromium with WebGPU")
    wait(page, "^Ready")
    for model, says in (
        ("good", r"^Done in .* s on the GPU\."),
        ("fast", r"^Done in \S+ s\."),
    ):
        page.check(f"input[value={model}]")
        found = restored(page, file)
        assert re.match(says, page.text_content("#message")), model
        overlap = {"fast": "64", "good": "32"}[model]
        expected = restored_by_python(site, model, file, tmp_path, "--overlap", overlap)
        assert np.abs(found - expected).max() <= 2


def test_cancel(visit):
    page = visit()
    page.set_input_files("#photo", photo(1000, 1024))
    page.click("#start:enabled")
    wait(page, "^Tile [0-9]+ of 900, about .* left$")
    page.click("#cancel")
    wait(page, "^Cancelled")
    assert not page.is_visible("#slider") and not page.is_visible("#progress")
    # The worker stops, too.
    begin = page.evaluate("performance.now()")
    assert restored(page, photo(96, 96)).shape == (96, 96, 3)
    assert page.evaluate("performance.now()") - begin < 20_000


def test_a_new_photo_cancels(visit):
    page = visit()
    page.set_input_files("#photo", photo(1000, 1024))
    page.click("#start:enabled")
    wait(page, "^Tile")
    assert restored(page, photo(96, 96)).shape == (96, 96, 3)


def test_large_photos_become_smaller_copies(visit):
    page = visit()
    wait(page, "^Ready")
    file = photo(8, 40)
    image = Image.new("RGB", (5000, 3400), (90, 120, 150))
    image.save(large := io.BytesIO(), "png")
    page.set_input_files("#photo", {**file, "buffer": large.getvalue()})
    wait(page, "^Of a photo of more than 16 megapixels a smaller copy is restored")
    options = page.locator("#size option").all_text_contents()
    assert [option.split(",")[0] for option in options] == [
        "5000 × 3400",
        "2560 × 1741",
        "1600 × 1088",
        "1024 × 696",
    ]
    assert page.is_disabled("#size option >> nth=0")
    assert page.input_value("#size") == "3"
    # 20 * 30 tiles; a second each is assumed before one has been seen.
    assert options[3] == "1024 × 696, 600 tiles, about 10 min"


def test_a_text_file_is_no_photo(visit):
    page = visit()
    wait(page, "^Ready")
    text = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"hello"}
    for how in "choose", "drop", "paste":
        give(page, how, {**text, "name": f"{how}.jpg"})
        wait(page, f"^{how}.jpg is no photo that this browser reads: use a JPEG or PNG")
        assert page.is_disabled("#start")
    for how in "choose", "drop", "paste":
        give(page, how, {**photo(96, 96), "name": f"{how}.png"})
        page.wait_for_selector(f"#photo-name:text('{how}.png')")
        page.click("#start:enabled")
        wait(page, "^Done in")


def give(page, how, file):
    if how == "choose":
        page.set_input_files("#photo", file)
        return
    page.evaluate(
        """([how, {name, mimeType, bytes}]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], name, {type: mimeType}));
          document.dispatchEvent(how === "drop"
            ? new DragEvent("drop", {dataTransfer: data})
            : new ClipboardEvent("paste", {clipboardData: data}));
        }""",
        [how, {**file, "buffer": None, "bytes": list(file["buffer"])}],
    )


@pytest.mark.parametrize(
    "script", ["delete self.WebAssembly", "WebAssembly.validate = () => false"]
)
def test_without_wasm(visit, script):
    page = visit(script=script)
    wait(page, "^This browser has no WebAssembly with SIMD, which the network needs")
    page.set_input_files("#photo", photo(96, 96))
    assert page.is_disabled("#start")


def test_without_a_model(visit, site):
    file = site / "models" / "fast.tflite"
    hidden = file.rename(site / "hidden")
    try:
        page = visit()
        wait(
            page, "^The server has no models/fast.tflite: build the page with build.py"
        )
        assert page.is_disabled("input[value=fast]")
        assert page.is_checked("input[value=good]")
    finally:
        hidden.rename(file)


def test_without_memory(visit):
    page = visit("--js-flags=--wasm-max-mem-pages=200")
    wait(page, "^The device has not enough memory: close other pages.$")
    assert page.is_disabled("#start")


def test_without_memory_for_a_model(visit, site, tmp_path):
    """LiteRT may give zeros then, with an error in the console only."""
    page, file = visit("--js-flags=--wasm-max-mem-pages=280"), photo(96, 96)
    wait(page, "^Ready")
    page.check("input[value=good]")
    page.set_input_files("#photo", file)
    page.click("#start:enabled")
    wait(page, "^The device has not enough memory: .* a smaller size or model.$")
    assert not page.is_visible("#save")
    # The page has begun anew, and a smaller model works.
    page.check("input[value=fast]")
    expected = restored_by_python(site, "fast", file, tmp_path)
    assert np.abs(restored(page, file) - expected).max() <= 2


def test_as_a_file(launch, site):
    page = launch().new_page()
    page.goto((site / "index.html").as_uri())
    wait(page, "^Browsers run no networks in pages opened as files: serve the folder")
    page.context.close()


def test_without_npm(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(program["BuildError"], match="npm is missing: install Node.js"):
        program["copy_runtime"](tmp_path)


def test_without_a_preset(program, tmp_path, capfd):
    model = program["Model"]("a", str(tmp_path / "none"), "", "")
    with pytest.raises(program["BuildError"], match="a could not be exported, see"):
        program["export"](model, tmp_path / "a.tflite")
    assert "error: PRESET" in capfd.readouterr().err
