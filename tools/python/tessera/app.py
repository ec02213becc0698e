"""`tessera app`: a page on this machine where images and texts are dropped, and what models find in them is seen.

The page listens on loopback alone and asks nothing of any other machine. Uploads and results lie in a folder of the
process that ends with it.
"""

import argparse
import html
import json
import os
import signal
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import Model, load
from ._images import extra, overlay, picture, read
from ._results import Classification, Segmentation

SHOWN = 2048  # pixels of the longer side on the screen
LONGEST = 1_000_000  # characters of a text


def main(arguments: list[str] | None = None) -> None:
    """The command `tessera app`."""
    options = _options(arguments)
    folder = tempfile.TemporaryDirectory(prefix="tessera-app-")
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder.name, "HF_HUB_OFFLINE": "1",
                   "HF_HUB_DISABLE_TELEMETRY": "1"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        import gradio
        import pandas  # noqa: F401
        import tifffile  # noqa: F401
    except ImportError as error:
        sys.exit(f"tessera: {extra('app', 'the page', error)}")
    try:
        models = [(path, load(path, device=options.device, threads=options.threads, max_memory=options.max_memory,
                              range=options.range)) for path in options.model]
    except (RuntimeError, ValueError) as error:
        sys.exit(f"tessera: {error}")
    with folder:
        page = build(models, Path(folder.name))
        page.queue(max_size=16, default_concurrency_limit=1)
        page.launch(server_name="127.0.0.1", server_port=options.port, share=False, inbrowser=options.open,
                    max_file_size=options.max_file, quiet=True, theme=gradio.themes.Base(font=["sans-serif"],
                                                                                         font_mono=["monospace"]),
                    css=_STYLE, js=_NAME_PICTURES, footer_links=[], prevent_thread_lock=True)
        print(f"http://127.0.0.1:{page.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            page.close(verbose=False)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tessera app", description="A page on this machine: drop images and texts, see what the models find.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("-m", "--model", action="append", required=True, metavar="FILE",
                        help="model file, UNet or HAN; each -m becomes a tab")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:N or auto")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0: every processor")
    parser.add_argument("--max-memory", metavar="BYTES", help="of the whole process, such as 2G")
    parser.add_argument("--range", metavar="LO,HI", help="pixel values that become 0 and 1, or auto")
    parser.add_argument("--port", type=int, metavar="N", help="on 127.0.0.1; default: the first free one from 7860")
    parser.add_argument("--max-file", default="1gb", metavar="SIZE", help="largest file that is taken: 500kb, 200mb, 1gb")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser.parse_args(arguments)


def build(models: list[tuple[str, Model]], folder: Path):
    """The page: a tab for each model."""
    import gradio as gr
    with gr.Blocks(title="Tessera", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# Tessera")
        with gr.Tabs():
            for path, model in models:
                with gr.Tab(Path(path).stem):
                    (_image_tab if model.task == "segment" else _text_tab)(gr, path, model, folder)
    return page


# --- images


@dataclass
class Shown:
    """What a session sees."""

    base: np.ndarray  # (h, w, 3) uint8, every `step`-th pixel
    mask: np.ndarray  # (h, w) uint8, likewise
    step: int
    colours: tuple[tuple[int, int, int], ...]
    boxes: dict[int, tuple[int, int, int, int]]  # by label: top, left, bottom, right in the image

    def paint(self, opacity: float, outline: bool, chosen: int | None = None) -> np.ndarray:
        result = overlay(self.base, self.mask, self.colours, opacity, outline)
        if chosen in self.boxes:
            top, left, bottom, right = (at // self.step for at in self.boxes[chosen])
            frame = np.zeros(self.mask.shape, bool)
            frame[max(top - 2, 0):bottom + 3, max(left - 2, 0):right + 3] = True
            frame[top:bottom + 1, left:right + 1] = False
            result[frame] = (255, 0, 255)
        return result


def segment_file(model: Model, path: str, page: int, folder: Path, progress=None) -> tuple[Shown, Any, str, list[str]]:
    """What is shown of a page of a file, its objects, its legend, and the files to download."""
    image, pages = read(path, page)
    result = model.segment(image, progress)
    table = result.objects()
    step = -(-max(image.shape[:2]) // SHOWN)
    boxes = {int(row[0]): tuple(map(int, row[1:])) for row in
             table[["label", "bbox-0", "bbox-1", "bbox-2", "bbox-3"]].itertuples(index=False)}
    shown = Shown(picture(np.ascontiguousarray(image[::step, ::step])), result.mask[::step, ::step], step,
                  model.colours, boxes)
    return shown, table, _legend(model, result, table, page, pages), _write(model, path, page, result, table, folder)


def _legend(model: Model, result: Segmentation, table, page: int, pages: int) -> str:
    pixels = np.bincount(result.mask.ravel(), minlength=len(model.classes))
    counts = table["class"].value_counts()
    rows = "".join(
        f'<tr><td><span class="swatch" style="background:rgb{colour}"></span>{html.escape(name)}</td>'
        f"<td>{'' if i == 0 else counts.get(name, 0)}</td><td>{pixels[i]}</td><td>{pixels[i] / result.mask.size:.2%}</td></tr>"
        for i, (name, colour) in enumerate(zip(model.classes, model.colours, strict=True)))
    height, width = result.mask.shape
    return (f'<table class="tessera-legend"><caption>{width} x {height} pixels, page {page + 1} of {pages}</caption><thead><tr>'
            '<th scope="col">class</th><th scope="col">objects</th><th scope="col">pixels</th><th scope="col">share</th>'
            f"</tr></thead><tbody>{rows}</tbody></table>")


def _write(model: Model, path: str, page: int, result: Segmentation, table, folder: Path) -> list[str]:
    """NAME.mask.png (class ids), NAME.labels.tif (objects, 16 bits where they suffice), NAME.objects.csv, NAME.run.json."""
    import tifffile
    from PIL import Image
    at = Path(tempfile.mkdtemp(dir=folder)) / (Path(path).stem + (f".page{page + 1}" if page else ""))
    labels = result.labels()
    names = [f"{at}.{ending}" for ending in ("mask.png", "labels.tif", "objects.csv", "run.json")]
    Image.fromarray(result.mask).save(names[0])
    tifffile.imwrite(names[1], labels.astype(np.uint16) if len(table) < 2**16 else labels.astype(np.float32))
    table.to_csv(names[2], index=False)
    from . import __version__
    Path(names[3]).write_text(json.dumps({
        "program": f"tessera {__version__}", "image": Path(path).name, "page": page + 1, "model": repr(model),
        "device": model.device, "precision": model.precision, "classes": model.classes, "config": model.config},
        indent=1, ensure_ascii=False), encoding="utf-8")
    return names


def _image_tab(gr, path: str, model: Model, folder: Path) -> None:
    stop = threading.Event()
    with gr.Row():
        with gr.Column(scale=1):
            file = gr.File(label="Image: PNG, JPEG, BMP, PNM, WebP, TIFF stack", type="filepath", height=140,
                           elem_classes="image-file")
            page = gr.Number(label="Page of a stack", value=1, minimum=1, precision=0)
            opacity = gr.Slider(0, 1, value=0.5, step=0.05, label="Opacity")
            outline = gr.Checkbox(label="Outlines instead of fill")
            halt = gr.Button("Stop")
            legend = gr.HTML()
            downloads = gr.File(label="Mask, labels, objects, settings", interactive=False, file_count="multiple")
        with gr.Column(scale=2):
            view = gr.Image(label="What the model sees in the image", interactive=False, format="png", elem_classes="view",
                            buttons=["download", "fullscreen"])
            objects = gr.Dataframe(label="Objects; a click on one frames it", interactive=False, max_height=400,
                                   elem_classes="objects")
    state = gr.State()

    def run(name, number, how_opaque, as_outline, progress=gr.Progress()):
        if name is None:
            return None, None, "", None, None
        stop.clear()

        def hear(done: int, tiles: int) -> None:
            if stop.is_set():
                raise InterruptedError("stopped")
            progress((done, tiles), unit="tiles")
        try:
            shown, table, text, files = segment_file(model, name, int(number or 1) - 1, folder, hear)
        except (InterruptedError, RuntimeError, TypeError, ValueError, MemoryError) as error:
            raise gr.Error(str(error) or "out of memory", title=Path(name).name, print_exception=False) from error
        return shown.paint(how_opaque, as_outline), table.round(2), text, files, shown

    def repaint(shown, how_opaque, as_outline):
        return None if shown is None else shown.paint(how_opaque, as_outline)

    def frame(shown, how_opaque, as_outline, event: gr.SelectData):
        return None if shown is None else shown.paint(how_opaque, as_outline, int(event.row_value[0]))

    outputs = [view, objects, legend, downloads, state]
    file.upload(lambda: 1, None, page, queue=False).then(run, [file, page, opacity, outline], outputs,
                                                         concurrency_id=path)
    page.submit(run, [file, page, opacity, outline], outputs, concurrency_id=path)
    file.clear(run, [file, page, opacity, outline], outputs)
    halt.click(stop.set, queue=False)
    for control in (opacity, outline):
        control.change(repaint, [state, opacity, outline], view, show_progress="hidden", trigger_mode="always_last")
    objects.select(frame, [state, opacity, outline], view, show_progress="hidden")


# --- texts


def read_text(path: str) -> str:
    """UTF-8, or UTF-16 with its mark."""
    with open(path, "rb") as file:
        data = file.read(4 * LONGEST + 1)
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text in UTF-8 or UTF-16: byte {error.start} is {data[error.start]:#04x}") from error


def highlight(answer: Classification) -> str:
    """HTML of the text: words shaded by their share of the label, a bar for each sentence's; weights in titles."""
    colour = "255, 200, 0"
    most = max((s.weight * w.weight for s in answer.sentences for w in s.words), default=1) or 1
    out, at, text = [], 0, answer.text
    for number, sentence in enumerate(answer.sentences, 1):
        out.append(html.escape(text[at:sentence.begin]))
        out.append(f'<span class="sentence" title="sentence {number}: {sentence.weight:.3f}">'
                   f'<span class="bar" style="height:{sentence.weight:.3f}em"></span>')
        at = sentence.begin
        for word in sentence.words:
            share = sentence.weight * word.weight
            out.append(html.escape(text[at:word.begin]))
            out.append(f'<span class="word{"" if word.known else " unknown"}" title="{word.weight:.3f} of its sentence'
                       f'{"" if word.known else ", not in the vocabulary"}" '
                       f'style="background:rgba({colour}, {share / most:.3f})">{html.escape(text[word.begin:word.end])}</span>')
            at = word.end
        out.append(html.escape(text[at:sentence.end]) + "</span>")
        at = sentence.end
    out.append(html.escape(text[at:]))
    notes = [f"not in the vocabulary, underlined: {answer.unknown_words}"] * (answer.unknown_words > 0)
    notes += [f"beyond the model's limits: {answer.sentences_dropped} sentences, {answer.words_dropped} words"] * (
        answer.sentences_dropped + answer.words_dropped > 0)
    return f'<div class="tessera-text">{"".join(out)}</div><p>{"; ".join(notes)}</p>'


def _text_tab(gr, path: str, model: Model, folder: Path) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            text = gr.Textbox(label="Text", lines=8, max_length=LONGEST)
            file = gr.File(label="or a text file", type="filepath", height=140, elem_classes="text-file")
            button = gr.Button("Classify", variant="primary")
        with gr.Column(scale=2):
            label = gr.Label(label="Class")
            shaded = gr.HTML(label="What counted", show_label=True, container=True)
            downloads = gr.File(label="The answer as JSON", interactive=False)

    def open_file(name):
        try:
            found = read_text(name)
        except (OSError, ValueError) as error:
            raise gr.Error(str(error), title=Path(name).name, print_exception=False) from error
        if len(found) > LONGEST:
            raise gr.Error(f"A text of {len(found)} characters or more; the page takes {LONGEST}", title=Path(name).name,
                           print_exception=False)
        return found

    def run(given):
        try:
            answer = model.classify(given)
        except (RuntimeError, TypeError, ValueError) as error:
            raise gr.Error(str(error), title="No answer", print_exception=False) from error
        at = Path(tempfile.mkdtemp(dir=folder)) / "answer.json"
        shares = dict(zip(model.classes, answer.probabilities.tolist(), strict=True))
        at.write_text(json.dumps({
            "label": answer.label, "probabilities": shares, "unknown_words": answer.unknown_words,
            "sentences_dropped": answer.sentences_dropped, "words_dropped": answer.words_dropped,
            "sentences": [asdict(sentence) for sentence in answer.sentences]}, ensure_ascii=False, indent=1), encoding="utf-8")
        return shares, highlight(answer), str(at)

    outputs = [label, shaded, downloads]
    for event in (button.click, text.submit):
        event(run, text, outputs, concurrency_id=path)
    file.upload(open_file, file, text).success(run, text, outputs, concurrency_id=path)


_STYLE = """
.view button, .view .image-frame { width: 100% !important; }
.view img { width: 100% !important; max-height: 75vh; object-fit: contain; }
.or { color: inherit !important; }
.tessera-legend { width: 100%; border-collapse: collapse; }
.tessera-legend td, .tessera-legend th { padding: 2px 6px; text-align: left; }
.tessera-legend .swatch { display: inline-block; width: 1em; height: 1em; margin-right: .5em; border: 1px solid #777; vertical-align: -2px; }
.tessera-text { margin-top: 1.3em; white-space: pre-wrap; line-height: 1.7; color: #000; background: #fff; padding: .6em; }
.tessera-text .bar { display: inline-block; width: .35em; min-height: 1px; margin-right: .15em; background: #06c; }
.tessera-text .unknown { text-decoration: underline dotted; }
"""

# Gradio's pictures have no text of their own for those who do not see them.
_NAME_PICTURES = """() => {
  const name = () => document.querySelectorAll('.view img').forEach(one => { one.alt = 'The classes over the image'; });
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
}"""
