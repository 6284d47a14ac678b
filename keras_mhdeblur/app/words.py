"""Sentences and fragments of the page. Names of files are escaped here."""

from html import escape
from pathlib import Path

from keras_mhdeblur.app.uploads import RefusedError
from keras_mhdeblur.utils.sizes import megapixels

TITLE = "Several sharp answers to one blurry photo"
MAX_MEGABYTES = 200
BRUSH_FIRST = "Brush over a region first, then click an answer."
FORGOTTEN = "The photo is no longer kept here: restore it again."


def header(local):
    """The page's first lines; `local`: only this machine sees the page."""
    where = (
        "Photos stay on this computer."
        if local
        else "Photos stay on the computer that serves this page, until it stops."
    )
    return (
        f'<div class="mh-head"><div><p class="mh-mark">mhdeblur</p>'
        f"<h1>{TITLE}</h1></div>"
        f'<p class="mh-where">{where}</p></div>'
    )


def choice(name, seconds, of_photo):
    """A choice and what it costs, the photo or a megapixel: "Fast, about 3 seconds"."""
    name = name.capitalize() if name.isidentifier() and len(name) < 9 else name
    if seconds is None:
        return name
    return (
        f"{name}, {duration(seconds) if of_photo else f'{seconds:.0f} s a megapixel'}"
    )


def limits(max_megapixels):
    """The photos that are taken, in a sentence."""
    return (
        f'<p class="mh-limits">JPEG, PNG, TIFF, WebP or AVIF of up to {max_megapixels} '
        f"megapixels and {MAX_MEGABYTES} MB. 16 bits, transparency, EXIF and colour "
        "profile are kept.</p>"
    )


def welcome():
    """The panel's text before there is a photo."""
    return note("Drop a photo, choose how long it may take, and press Restore.")


def welcome_many():
    """As `welcome`, of many photos."""
    return note("Drop photos, or all photos of a folder. They are restored in turn.")


def caption():
    """The text above the thumbnails."""
    return note("Every answer, at the place where they differ most. Click one.")


def hint(brushed):
    """The next thing to do with the brush; `brushed`: a region is marked."""
    if brushed:
        return note("Now click the answer that the brushed region shall show.")
    return note("Brush over a region, a face for example.")


def composing():
    """The text while a region gets its answer."""
    return note("One moment.")


def regions(count):
    """The number of regions that have an answer of their own."""
    if not count:
        return hint(False)
    have = "1 region has its own answer"
    if count > 1:
        have = f"{count} regions have answers of their own"
    return note(f"{have}. Brush the next one, or save.", "good")


def restored(seconds, result):
    """The text about a restored photo.

    Args:
        seconds: that it took.
        result: `RestoreResult`.
    """
    text = f"Restored in {exact(seconds)}."
    if result.is_calibrated:
        statement = result.statement
        text += f" {statement[0].upper()}{statement[1:]}."
    share = 0 if result.kept is None else round(100 * result.kept.mean())
    if share and result.share:
        text += (
            f" {share} % of it is unchanged: it is sharp already, or no answer fits."
        )
    return note(text, "good")


def legend(retouched, shown, level):
    """The meaning of the picture beside the photo, and of its colours.

    Args:
        retouched: `Retouched`.
        shown: index of the hypothesis, -1 for the restored one.
        level: of 255, that the brightest colour stands for; None without colours.
    """
    if level is not None:
        return note(f"Bright: the answers differ by {level:.0f} of 255 levels or more.")
    name = "restored" if shown < 0 else f"answer {retouched.names[shown]}"
    return note(f"Left of the line: the photo. Right: {name}.")


def chosen(count):
    """The number of photos that wait."""
    if not count:
        return welcome_many()
    return note("1 photo is ready." if count == 1 else f"{count} photos are ready.")


def batch_progress(rows, step):
    """The progress of many photos."""
    done = sum(row.kind in ("good", "bad") for row in rows)
    text = f"Photo {min(done + 1, len(rows))} of {len(rows)}"
    if step is None:
        return note(text)
    return note(text) + progress(step)


def batch_done(rows):
    """The outcome of many photos."""
    good = sum(row.kind == "good" for row in rows)
    bad = sum(row.kind == "bad" for row in rows)
    text = f"{good} of {len(rows)} photos restored."
    if bad:
        text += f" {bad} failed; the table says why."
    return note(text, "good" if good else "bad")


def exact(seconds):
    """A measured time: "3.4 s", "2 min 5 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def duration(seconds):
    """A time in words: "about 20 seconds"."""
    if seconds < 1.5:
        return "about a second"
    if seconds < 10:
        return f"about {seconds:.0f} seconds"
    if seconds < 55:
        return f"about {5 * round(seconds / 5)} seconds"
    minutes = seconds / 60
    if minutes < 1.5:
        return "about a minute"
    if minutes < 60:
        return f"about {minutes:.0f} minutes"
    hours = minutes / 60
    return "about an hour" if hours < 1.5 else f"about {hours:.0f} hours"


def sentence(error):
    """An error as one sentence for a person."""
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this photo."
    if isinstance(error, OSError):
        import errno

        from keras_mhdeblur.utils.disk_arrays import DiskFullError

        if isinstance(error, DiskFullError) or error.errno == errno.ENOSPC:
            return "The disk of this machine is full: make room and try again."
    text = " ".join(str(error).split()).split(" Received: ")[0][:300].rstrip(".")
    if isinstance(error, ValueError):
        return f"{text}."
    return f"Something went wrong: {text or type(error).__name__}."


def outcome(error):
    """As `sentence`, in a table that has the photo's name already."""
    text = error.reason if isinstance(error, RefusedError) else sentence(error)
    return text[:1].upper() + text[1:]


def note(text, kind="note"):
    """A message; `kind` is "note", "good" or "bad"."""
    role = "alert" if kind == "bad" else "status"
    return f'<p class="mh-note mh-{kind}" role="{role}">{escape(text)}</p>'


def progress(step, estimate=None):
    """Bar and words of a `Step`.

    Args:
        step: `Step`.
        estimate: seconds that the whole is expected to take, or None.
    """
    if step.waiting:
        photos = "1 photo is" if step.waiting == 1 else f"{step.waiting} photos are"
        return _bar(None, f"Waiting: {photos} before yours", "")
    left = time_left(step, estimate)
    share = None
    if left is not None and step.seconds + left > 0:
        share = step.seconds / (step.seconds + left)
    tile = "Preparing"
    if step.total:
        tile = f"Tile {min(step.done + 1, step.total)} of {step.total}"
    if step.stopping:
        return _bar(share, "Stopping after this tile", "")
    return _bar(share, tile, "" if left is None else f"{duration(left)} left")


def time_left(step, estimate=None):
    """Seconds that a `Step` still needs, or None where nothing tells."""
    if step.done and step.total:
        each = (step.seconds - step.since) / step.done
        return max(each * (step.total - step.done) - step.since, 0.0)
    if estimate is None or not step.total:
        return None
    return max(estimate - step.seconds, 0.0)


def _bar(share, left, right):
    kind = "mh-bar mh-unsure" if share is None else "mh-bar"
    percent = 30 if share is None else round(100 * min(max(share, 0.02), 0.99))
    return (
        f'<div class="mh-progress" role="progressbar" aria-label="Progress" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<div class="{kind}"><i style="width:{percent}%"></i></div>'
        f"<p><span>{escape(left)}</span><span>{escape(right)}</span></p></div>"
    )


def about_photo(path, size, screen):
    """Name and size of a photo, and whether it is shown smaller than it is.

    Args:
        path: of the photo.
        size: (width, height).
        screen: the longest side that is shown.
    """
    width, height = size
    facts = f"{width} × {height}, {megapixels(height, width)}"
    if max(size) > screen:
        facts += ", shown smaller; saved in full size"
    return (
        f'<p class="mh-about"><b>{escape(Path(path).name)}</b><span>{facts}</span></p>'
    )


def table(rows):
    """Results of several photos, of `studio.Row`."""
    head = ("Photo", "Size", "Seconds", "Kept as it was", "Outcome")
    cells = "".join(f"<th>{text}</th>" for text in head)
    body = "".join(
        f'<tr class="mh-{row.kind}">'
        + "".join(
            f'<td data-label="{label}">{escape(text)}</td>'
            for label, text in zip(head, _cells(row))
        )
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="mh-table"><table><thead><tr>'
        f"{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(row):
    return (
        row.path.name,
        "" if row.size is None else f"{row.size[0]} × {row.size[1]}",
        "" if row.seconds is None else f"{row.seconds:.1f}",
        "" if row.kept is None else f"{100 * row.kept:.0f} %",
        row.outcome,
    )
