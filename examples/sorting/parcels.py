"""Draws pictures of parcels on a belt, intact or damaged. Drawn, not photographed: no package carries free photographs.

Shares of the kinds of damage follow what carriers' damage was summed up as (getattribute.com, shipping damage by
carrier, 2026: crushed 35 to 40 %, impact 25 to 30 %, puncture or tear 15 to 20 %, water 10 to 15 %, opened 5 to 10 %;
impact is drawn as crushed). How often a parcel is damaged at all: 313 of the 3,234 that StellaService ordered in 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

KINDS = ("intact", "crushed", "torn", "wet", "open")
SHARES = (0.62, 0.18, 0.12, 0.08)
"""Of the kinds of damage."""
DAMAGED_SHARE = 313 / 3234
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A picture, and what is true of it."""

    kind: str
    severity: float
    """0 (a trained eye sees it) to 1 (anybody does); 0 if intact."""
    picture: Image.Image


def draw_parcel(seed: int, kind: str, size: int = 320) -> Parcel:
    """Draw one parcel; equal arguments give equal pixels."""
    return _Drawing(np.random.default_rng([seed, KINDS.index(kind)]), kind, size).parcel()


class _Drawing:
    def __init__(self, draw: np.random.Generator, kind: str, size: int) -> None:
        self.r, self.kind, self.size = draw, kind, size
        self.severity = 0.0 if kind == "intact" else float(draw.uniform(0, 1))
        self.scale = size / 320
        grey = int(draw.integers(40, 95))
        self.image = Image.new("RGB", (size, size), (grey, grey, int(grey * 1.05)))
        self.pen = ImageDraw.Draw(self.image)
        base = draw.uniform(0.75, 1.1)
        self.colour = np.array([186, 146, 103]) * base + draw.normal(0, 6, 3)
        turn, tilt = np.radians(draw.uniform(20, 70)), np.radians(draw.uniform(35, 58))
        self.turn, self.tilt = (np.cos(turn), np.sin(turn)), (np.cos(tilt), np.sin(tilt))
        self.box = draw.uniform((130, 115, 60), (200, 175, 140))
        self.middle = np.array([160, 185]) + draw.uniform(-12, 12, 2)

    def parcel(self) -> Parcel:
        for at in range(0, 400, 40):  # the belt
            self.line([(at - 80 + self.r.uniform(-2, 2), 0), (at + 20, 320)], (35, 35, 38), 1)
        faces = {"front": ((0, 0, 0), (1, 0, 0), (0, 0, 1)), "side": ((1, 0, 0), (0, -1, 0), (0, 0, 1))}
        self.shadow()
        for name, shade in (("front", 0.86), ("side", 0.68)):
            self.face(name, *faces[name], shade)
        self.face("top", (0, 0, 1), (1, 0, 0), (0, -1, 0), 1.0)
        {"crushed": self.crush, "torn": self.tear, "wet": self.wet, "open": self.open}.get(self.kind, self.disturb)()
        if self.r.random() < 0.5:
            self.disturb()
        return Parcel(self.kind, self.severity, self.finish())

    def at(self, x: float, y: float, z: float) -> Point:
        """Return the place on the picture of a point of the box, whose sides are 1."""
        px, py, pz = (np.array([x, -y, z]) - (0.5, 0.5, 0)) * self.box
        along = px * self.turn[0] + py * self.turn[1]
        away = -px * self.turn[1] + py * self.turn[0]
        place = self.middle + np.array([along, 25 - away * self.tilt[1] - pz * self.tilt[0]])
        return float(place[0]), float(place[1])

    def polygon(self, points: list[Point], colour: np.ndarray | tuple[int, ...]) -> None:
        shade = tuple(int(np.clip(c, 0, 255)) for c in colour)
        self.pen.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=shade)

    def line(self, points: list[Point], colour: np.ndarray | tuple[int, ...], width: float) -> None:
        shade = tuple(int(np.clip(c, 0, 255)) for c in colour)
        self.pen.line(
            [(x * self.scale, y * self.scale) for x, y in points], fill=shade, width=max(1, round(width * self.scale))
        )

    def shadow(self) -> None:
        layer = Image.new("L", self.image.size, 0)
        foot = [self.at(0.02, 0.1, 0), self.at(1.12, 0.1, 0), self.at(1.12, -1, 0), self.at(0, -1, 0)]
        ImageDraw.Draw(layer).polygon([(x * self.scale, y * self.scale + 6 * self.scale) for x, y in foot], fill=120)
        layer = layer.filter(ImageFilter.GaussianBlur(7 * self.scale))
        self.image.paste((15, 15, 18), mask=layer)

    def face(self, name: str, origin: tuple[int, ...], u: tuple[int, ...], v: tuple[int, ...], shade: float) -> None:
        def on(a: float, b: float) -> Point:
            return self.at(*(origin[i] + a * u[i] + b * v[i] for i in range(3)))

        self.polygon([on(0, 0), on(1, 0), on(1, 1), on(0, 1)], self.colour * shade)
        for a in np.linspace(0.04, 0.96, 24):  # the flutes of the board
            self.line([on(a, 0), on(a, 1)], self.colour * shade * self.r.uniform(0.965, 1.0), 1)
        if name == "top":
            self.polygon(
                [on(0, 0.43), on(1, 0.43), on(1, 0.57), on(0, 0.57)], self.colour * 0.5 + self.r.uniform(90, 120)
            )
            self.line([on(0, 0.5), on(1, 0.5)], self.colour * 0.8, 1)
        if self.r.random() < (0.75 if name != "side" else 0.3):
            self.label(on, shade)
        if self.r.random() < 0.4:  # a printed mark
            a, b = self.r.uniform(0.08, 0.7, 2)
            ink = self.colour * shade * self.r.uniform(0.25, 0.6)
            self.polygon(
                [on(a, b), on(a + 0.13, b), on(a + 0.13, b + 0.18), on(a + 0.065, b + 0.26), on(a, b + 0.18)], ink
            )

    def label(self, on: object, shade: float) -> None:
        assert callable(on)
        a, b = self.r.uniform(0.05, 0.5), self.r.uniform(0.05, 0.2)
        self.polygon(
            [on(a, b), on(a + 0.4, b), on(a + 0.4, b + 0.55), on(a, b + 0.55)], np.array([235, 235, 230]) * shade
        )
        for x in np.cumsum(self.r.uniform(0.008, 0.025, 16)):
            self.line([on(a + 0.03 + x, b + 0.08), on(a + 0.03 + x, b + 0.26)], (25, 25, 25), self.r.uniform(0.6, 1.6))
        for y in (0.34, 0.42):
            self.line([on(a + 0.04, b + y), on(a + self.r.uniform(0.2, 0.36), b + y)], (70, 70, 70), 1)

    def spot(self) -> tuple[float, float, float]:
        """Return a place on a face that the camera sees."""
        a, b = self.r.uniform(0.18, 0.82, 2)
        return [(a, 0.0, b), (1.0, -a, b), (a, -b, 1.0)][self.r.integers(3)]

    def ring(self, middle: Point, radius: float, points: int, rough: float) -> list[Point]:
        angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
        reach = radius * (1 + self.r.uniform(-rough, rough, points))
        return [
            (middle[0] + float(c), middle[1] + float(s))
            for c, s in zip(reach * np.cos(angles), 0.8 * reach * np.sin(angles), strict=True)
        ]

    def crush(self) -> None:
        """Push a corner in: three facets in other shades, and the creases around them."""
        x, y = [(1, 0), (0, 0), (1, -1)][self.r.integers(3)]
        deep = 0.1 + 0.28 * self.severity
        inward = (x + (deep if x == 0 else -deep), y + (-deep if y == 0 else deep))
        tip = self.at(*inward, 1 - deep * self.r.uniform(0.6, 1.1))
        reach = deep * self.r.uniform(1.4, 2.0)
        one = self.at(x + (reach if x == 0 else -reach), y, 1)
        two = self.at(x, y + (-reach if y == 0 else reach), 1)
        low = self.at(x, y, 1 - reach)
        corner = self.at(x, y, 1)
        self.polygon([one, corner, two], (52, 52, 56))
        for points, shade in (([one, tip, two], 0.78), ([one, tip, low], 0.55), ([two, tip, low], 0.45)):
            self.polygon(points, self.colour * shade * self.r.uniform(0.9, 1.1))
        for end in (one, two, low):
            self.line([tip, end], self.colour * 0.35, 1.2)
            far = self.r.uniform(0.2, 0.6)
            self.line(
                [end, (end[0] + (end[0] - tip[0]) * far, end[1] + (end[1] - tip[1]) * far)], self.colour * 0.55, 1
            )

    def tear(self) -> None:
        """A hole with a light torn edge and a flap."""
        middle = self.at(*self.spot())
        hole = self.ring(middle, 4 + 15 * self.severity, 11, 0.45)
        self.polygon(
            [(x + 1.5, y + 1.5) for x, y in self.ring(middle, 6 + 17 * self.severity, 11, 0.4)], self.colour * 1.25
        )
        self.polygon(hole, (22, 18, 15))
        flap = [hole[0], hole[2], (hole[1][0] + self.r.uniform(4, 12), hole[1][1] - self.r.uniform(3, 9))]
        self.polygon(flap, self.colour * 1.12)

    def wet(self) -> None:
        """A dark stain with a soft border and a darker rim, from the bottom or in the middle of a face."""
        layer, rim = Image.new("L", self.image.size, 0), Image.new("L", self.image.size, 0)
        x, y, z = self.spot()
        middle = self.at(x, y, 0.1 if z < 1 and self.r.random() < 0.6 else z)
        outline = [(a * self.scale, b * self.scale) for a, b in self.ring(middle, 14 + 26 * self.severity, 15, 0.35)]
        ImageDraw.Draw(layer).polygon(outline, fill=int(70 + 90 * self.severity))
        ImageDraw.Draw(rim).line(
            [*outline, outline[0]], fill=int(60 + 70 * self.severity), width=max(1, round(2 * self.scale))
        )
        inside = Image.new("L", self.image.size, 0)
        corners = [(0, 0, 0), (1, 0, 0), (1, -1, 0), (1, -1, 1), (0, -1, 1), (0, 0, 1)]
        ImageDraw.Draw(inside).polygon(
            [(a * self.scale, b * self.scale) for a, b in (self.at(*c) for c in corners)], fill=255
        )
        soft = ImageChops.lighter(
            layer.filter(ImageFilter.GaussianBlur(3 * self.scale)), rim.filter(ImageFilter.GaussianBlur(self.scale))
        )
        self.image.paste((72, 50, 32), mask=ImageChops.multiply(soft, inside))

    def open(self) -> None:
        """A gap where the tape was, with the dark inside and a raised flap."""
        wide = 0.05 + 0.2 * self.severity
        gap = [(0.0, -0.5), (1.0, -0.5 - 0.02), (1.0, -0.5 - wide), (0.0, -0.5 - wide * self.r.uniform(0.3, 1))]
        self.polygon([self.at(a, b, 1) for a, b in gap], (28, 24, 20))
        lift = 0.1 + 0.3 * self.severity
        flap = [
            self.at(0, -0.5, 1),
            self.at(1, -0.5, 1),
            self.at(1, -0.3, 1 + lift),
            self.at(0, -0.3, 1 + lift * self.r.uniform(0.6, 1)),
        ]
        self.polygon(flap, self.colour * 0.93)
        self.line(flap[2:], self.colour * 1.2, 1.5)

    def disturb(self) -> None:
        """What is on intact parcels too: a scuff, a strap, a sticker, handwriting."""
        kind = self.r.integers(4)
        middle = self.at(*self.spot())
        if kind == 0:
            self.polygon(self.ring(middle, self.r.uniform(4, 9), 9, 0.3), self.colour * self.r.uniform(0.78, 1.12))
        elif kind == 1:
            a = self.r.uniform(0.2, 0.8)
            self.line([self.at(a, 0, 0), self.at(a, 0, 1), self.at(a, -1, 1)], (30, 60, 110), 3)
        elif kind == 2:
            self.polygon(self.ring(middle, self.r.uniform(6, 11), 20, 0.02), self.r.uniform(30, 230, 3))
        else:
            for _ in range(4):
                middle = (middle[0] + self.r.uniform(-9, 9), middle[1] + self.r.uniform(-5, 5))
                self.line(
                    [middle, (middle[0] + self.r.uniform(-9, 9), middle[1] + self.r.uniform(-6, 6))], (40, 40, 70), 1.2
                )

    def finish(self) -> Image.Image:
        """Add light, blur and noise of a camera."""
        picture = self.image.filter(ImageFilter.GaussianBlur(self.r.uniform(0.4, 1.1) * self.scale))
        pixels = np.asarray(picture, np.float32)
        x, y = np.meshgrid(np.linspace(-1, 1, self.size), np.linspace(-1, 1, self.size))
        light = self.r.uniform(0.7, 1.15) * (1 + self.r.uniform(-0.18, 0.18) * x + self.r.uniform(-0.18, 0.18) * y)
        noise = self.r.normal(0, self.r.uniform(2, 6), (self.size, self.size, 1))
        return Image.fromarray(np.clip(pixels * light[..., None] + noise, 0, 255).astype(np.uint8))
