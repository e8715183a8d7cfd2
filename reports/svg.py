"""Charts within an HTML page: matplotlib's SVG with a text alternative, and colours that follow light and dark."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from base64 import b64decode, b64encode
from io import BytesIO

from markupsafe import Markup
from PIL import Image

SVG, LINKS = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{LINKS}}}href"
PNG, JPEG = "data:image/png;base64,", "data:image/jpeg;base64,"
QUALITY = 80  # of photographs as JPEG, which is a fraction of their PNG
PAINTED = 256  # a drawn image has at most so many colours
VARIABLES = {
    "#4477aa": "--blue",
    "#cc7733": "--orange",
    "#228833": "--green",
    "#882277": "--purple",
    "#66ccee": "--cyan",
}  # of templates/report.css
HEX = re.compile("#[0-9a-f]{6}")
FIGURE = "figure_1"  # matplotlib's id of all that it draws
FONT = re.compile(r"font-family: [^;]*;?\s*")


def inlined(svg: str, name: str, title: str) -> Markup:
    """Return a chart's SVG for an HTML page. `name` makes its ids unique there, `title` says what it shows."""
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}style", f"{{{SVG}}}metadata"):
                parent.remove(child)
    for image in root.iter(f"{{{SVG}}}image"):
        image.set(HREF, as_jpeg(image.attrib[HREF]))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
        attributes = {key.removeprefix(f"{{{LINKS}}}"): value for key, value in element.attrib.items()}
        element.attrib = {key: _value(key, value, name) for key, value in attributes.items()}
    sizes = {key: root.attrib.pop(key) for key in ("width", "height", "version")}
    root.attrib |= {"role": "img", "aria-label": title, "style": f"--width: {sizes['width']}"}
    if root.find(".//image") is not None:  # its pixels do not follow, so its text must not either
        root.set("class", "light")
    return Markup(ET.tostring(root, "unicode"))


def repeated(svg: Markup, name: str) -> Markup:
    """Return a chart that the page shows a second time, without a copy of its content; `name` is as in `inlined`."""
    root = ET.fromstring(svg)
    root[:] = []
    ET.SubElement(root, "use", href=f"#{name}-{FIGURE}")
    return Markup(ET.tostring(root, "unicode"))


def as_jpeg(address: str) -> str:
    """Return the data address of an opaque photograph as that of a JPEG; that of another image as it is."""
    with Image.open(BytesIO(b64decode(address.removeprefix(PNG)))) as image:
        colours = image.convert("RGB").getcolors(PAINTED)
        opaque = "A" not in image.mode or image.getchannel("A").getextrema()[0] == 255
        if colours or not opaque:
            return address
        return jpeg_address(image)


def jpeg_address(image: Image.Image) -> str:
    """Return the data address of an image as a JPEG."""
    encoded = BytesIO()
    image.convert("RGB").save(encoded, "JPEG", quality=QUALITY)
    return JPEG + b64encode(encoded.getvalue()).decode()


def _value(key: str, value: str, name: str) -> str:
    """Return an attribute's value with the page's colours and font, and with ids of the chart's own."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    if key in ("style", "fill", "stroke"):
        value = FONT.sub("", HEX.sub(lambda colour: _follows(colour[0]), value))
    return value.replace("url(#", f"url(#{name}-")


def _follows(colour: str) -> str:
    """Return a colour as the page's: a grey lies between paper and ink, the chart's other colours are variables."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    if red == green == blue:
        return f"color-mix(in srgb, var(--ink) {round(100 - red / 2.55)}%, var(--paper))"
    return f"var({VARIABLES[colour]})" if colour in VARIABLES else colour
