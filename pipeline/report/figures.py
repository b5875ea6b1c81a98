"""matplotlib figures as parts of a page: SVG whose lines and letters take the page's colour, light or dark."""

import base64
import io
import re
import uuid

_INK = "#010203"  # stands for the page's colour of text while a figure is drawn; nothing else has it
WIDTH = 4.6       # inches: in a column of a page, and on a phone, letters stay readable
_STYLE = {"svg.fonttype": "none", "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "xtick.color": _INK,
          "ytick.color": _INK, "figure.facecolor": "none", "axes.facecolor": "none",
          "savefig.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False, "font.size": 10,
          "font.family": ["sans-serif"]}
INK = _INK


def legend(axes, **options) -> None:
    """As axes.legend, in the style of the page; none where no line has a name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=INK, **options)


def new(height: float = 2.9):
    """(figure, its axes) in the style of the page; height: inches."""
    import matplotlib  # late: it takes a moment, and evaluate.py may be asked for no report
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
    axes.grid(alpha=0.25)
    return figure, axes


def svg(figure) -> str:
    """A figure as inline SVG."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "fieldmark"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.DOTALL)
    return _with_own_ids(text.replace(_INK, "currentColor"))


def _with_own_ids(text: str) -> str:
    """SVGs of one page must not share the ids of their clips and markers."""
    mark = uuid.uuid5(uuid.NAMESPACE_OID, text).hex[:8]
    text = re.sub(r'\bid="([^"]+)"', rf'id="{mark}-\1"', text)
    return re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{mark}-", text)


def png(figure, dots: int = 150) -> str:
    """A figure as an img element: for what has too many points to be drawn as lines."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots, transparent=True)
    return f'<img alt="" src="{data_uri(buffer.getvalue(), "png")}">'


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
