"""The layout of an open page, as somebody sees it who zooms, reads from right to left, or has a thumb for a pointer."""

from __future__ import annotations

import base64

from playwright.sync_api import Locator, Page

SMALLEST_TARGET = 24
"""In CSS pixels, for a link that is not part of a sentence (WCAG 2.2, success criterion 2.5.8)."""
LONGEST_LINE = 90
"""In characters."""


def faults(page: Page) -> list[str]:
    """What is beyond an edge, cut off, too small to hit, or too long to read."""
    return page.evaluate(_FAULTS, {"smallest": SMALLEST_TARGET, "longest": LONGEST_LINE})


def space_out(page: Page) -> None:
    """Give all text the spacing that a page must bear (WCAG 2.2, success criterion 1.4.12)."""
    page.evaluate(_SPACED)


def indent(page: Page) -> dict[str, float]:
    """How far the heading starts from its edge, in CSS pixels, by direction."""
    return page.evaluate(_INDENT)


def first_line(element: Locator) -> dict[str, float]:
    """The box of an element's first line of text: x, y, width and height, in CSS pixels of the view."""
    return element.evaluate(_FIRST_LINE)


def middle_of_ink(other: Page, picture: bytes) -> float:
    """How far down the middle of all that is drawn in a picture (PNG) lies, in pixels. `other` is a page that may
    load it: the pages that are tested load nothing."""
    return other.evaluate(_MIDDLE_OF_INK, base64.b64encode(picture).decode())


_FAULTS = """({smallest, longest}) => {
  const faults = [];
  const fault = (what, element) => faults.push(`${what}: ${element.outerHTML.slice(0, 80)}`);
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) fault("scrolls sideways", root);
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (box.left < 0 || box.right > root.clientWidth) fault("beyond the edge", element);
    const [width, height] = [element.clientWidth, element.clientHeight];
    if (width && (element.scrollWidth > width + 1 || element.scrollHeight > height + 1)) fault("clipped", element);
  }
  for (const link of document.links) {
    const box = link.getBoundingClientRect();
    const isInText = link.parentElement.textContent.trim() !== link.textContent.trim();
    if (!isInText && Math.min(box.width, box.height) < smallest) fault("small target", link);
  }
  for (const paragraph of document.querySelectorAll("p, li")) {
    const lines = new Map();
    const texts = document.createTreeWalker(paragraph, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (let i = 0; i < texts.currentNode.length; i++) {
        const range = document.createRange();
        range.setStart(texts.currentNode, i);
        range.setEnd(texts.currentNode, i + 1);
        const bottom = Math.round(range.getBoundingClientRect().bottom);
        lines.set(bottom, (lines.get(bottom) ?? 0) + 1);
      }
    }
    if (Math.max(...lines.values()) > longest) fault("long line", paragraph);
  }
  return faults;
}"""
_SPACED = """() => {
  for (const element of document.querySelectorAll("*")) {
    element.style.lineHeight = "1.5";
    element.style.letterSpacing = "0.12em";
    element.style.wordSpacing = "0.16em";
    if (element.matches("p")) element.style.marginBottom = "2em";
  }
}"""
_FIRST_LINE = """element => {
  const range = document.createRange();
  range.selectNodeContents(element);
  const {x, y, width, height} = range.getClientRects()[0];
  return {x, y, width, height};
}"""
_MIDDLE_OF_INK = """async encoded => {
  const bytes = Uint8Array.from(atob(encoded), byte => byte.charCodeAt());
  const image = await createImageBitmap(new Blob([bytes], {type: "image/png"}));
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const {data} = context.getImageData(0, 0, image.width, image.height);
  const rows = new Set();
  for (let i = 0; i < data.length; i += 4) {
    if ([0, 1, 2].some(part => Math.abs(data[i + part] - data[part]) > 64)) rows.add(Math.floor(i / 4 / image.width));
  }
  return (Math.min(...rows) + Math.max(...rows)) / 2;
}"""
_INDENT = """() => {
  const heading = document.querySelector("h1");
  const range = document.createRange();
  range.selectNodeContents(heading);
  const [text, box] = [range.getBoundingClientRect(), heading.getBoundingClientRect()];
  return {ltr: text.left - box.left, rtl: box.right - text.right};
}"""
