"""What the shop sells: plausible products, the same ones for the same seed."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class NewProduct(NamedTuple):
    """A product as it goes into the database.

    Attributes:
        id: from 1, without gaps.
        name: what it is called.
        category: one of `CATEGORIES`.
        description: two or three sentences.
        price_cents: in cents.
    """

    id: int
    name: str
    category: str
    description: str
    price_cents: int


class Range(NamedTuple):
    """What a category is made of: every kind comes in every variety.

    Attributes:
        kinds: what is sold, such as "Oolong".
        varieties: what it is like, such as "Smoked".
        sizes: how it is packed; the dearest comes last.
        price_cents: the cheapest and the dearest price of the smallest size.
        praise: sentences that fit anything in the category.
    """

    kinds: tuple[str, ...]
    varieties: tuple[str, ...]
    sizes: tuple[str, ...]
    price_cents: tuple[int, int]
    praise: tuple[str, ...]


_RANGES: dict[str, Range] = {
    "Tea": Range(
        ("Oolong", "Sencha", "Assam", "Darjeeling", "White Peony", "Earl Grey", "Jasmine Tea", "Rooibos", "Genmaicha"),
        ("Smoked", "First Flush", "Mountain", "Spring", "Autumn", "Hand-rolled", "Evening", "Breakfast", "Garden"),
        ("50 g", "100 g", "250 g"),
        (450, 1600),
        (
            "Leaves that open slowly and give three good infusions.",
            "Bright in the cup, with a long, sweet finish.",
            "Best with soft water just off the boil.",
        ),
    ),
    "Coffee": Range(
        ("Espresso", "Filter Roast", "Mocha", "Peaberry", "Decaf", "House Blend", "Cold Brew Blend", "Lungo"),
        ("Highland", "Washed", "Sun-dried", "Slow-roasted", "Dark", "Light", "Harbour", "Morning", "Single-farm"),
        ("250 g", "500 g", "1 kg"),
        (690, 1450),
        (
            "Notes of cocoa and ripe plum, with little bitterness.",
            "Roasted in small batches on Tuesdays and sent on Wednesdays.",
            "Whole beans; grind them just before you brew.",
        ),
    ),
    "Chocolate": Range(
        ("Bar", "Truffles", "Drinking Chocolate", "Pralines", "Cocoa Nibs", "Thins", "Gianduja", "Orange Batons"),
        ("Dark", "Milk", "Sea Salt", "Hazelnut", "Raspberry", "Almond", "Ginger", "Coffee", "Cardamom"),
        ("70 g", "140 g", "280 g"),
        (390, 990),
        (
            "Made from the bean by two people and one patient machine.",
            "Snaps cleanly, melts slowly.",
            "Keep it cool and dry, if it lasts that long.",
        ),
    ),
    "Spices": Range(
        ("Pepper", "Paprika", "Cumin", "Cinnamon", "Curry Blend", "Saffron Salt", "Za'atar", "Vanilla Sugar"),
        ("Smoked", "Wild", "Toasted", "Fiery", "Sweet", "Coarse", "Stone-ground", "Royal", "Coastal"),
        ("40 g tin", "90 g tin", "200 g pouch"),
        (320, 1250),
        (
            "A pinch is enough; two are better.",
            "Ground the week it is sent, so that the oils are still there.",
            "From one growing region and one harvest.",
        ),
    ),
    "Honey": Range(
        ("Blossom Honey", "Acacia Honey", "Chestnut Honey", "Linden Honey", "Heather Honey", "Honeycomb", "Fir Honey"),
        ("Raw", "Creamed", "Summer", "Mountain", "Valley", "Riverside", "Orchard", "Wildflower", "Late-season"),
        ("125 g", "250 g", "500 g"),
        (480, 1290),
        (
            "Cold-extracted and never heated above the warmth of the hive.",
            "Good on bread, better by the spoon.",
            "It may crystallise: stand the jar in warm water.",
        ),
    ),
    "Ceramics": Range(
        ("Mug", "Teapot", "Bowl", "Vase", "Plate", "Espresso Cup", "Pitcher", "Butter Dish", "Salt Pig"),
        ("Celadon", "Speckled", "Indigo", "Chalk", "Ash-glazed", "Terracotta", "Slate", "Moss", "Ivory"),
        ("small", "medium", "large"),
        (1400, 4200),
        (
            "Thrown by hand, so no two are quite alike.",
            "Glazed inside and out; safe in the dishwasher.",
            "Its foot is left bare, so that you can feel the clay.",
        ),
    ),
    "Stationery": Range(
        ("Notebook", "Sketchbook", "Fountain Pen", "Pencil Set", "Letter Paper", "Ink", "Desk Pad", "Envelope Set"),
        ("Linen-bound", "Pocket", "Travel", "Ruled", "Dotted", "Midnight", "Sage", "Copper", "Recycled"),
        ("single", "pair", "set of four"),
        (490, 2400),
        (
            "Paper heavy enough for fountain pens: nothing shows through.",
            "Lies flat when open, from the first page to the last.",
            "Made to be used up, not to be kept for best.",
        ),
    ),
    "Candles": Range(
        (
            "Pillar Candle",
            "Taper Candles",
            "Tin Candle",
            "Lantern Candle",
            "Votive Candles",
            "Tea Lights",
            "Jar Candle",
        ),
        ("Beeswax", "Cedar", "Fig Leaf", "Lavender", "Sea Air", "Amber", "Rosemary", "Bergamot", "Winter"),
        ("20 hours", "40 hours", "60 hours"),
        (590, 2200),
        (
            "A cotton wick and clean wax: no soot on the ceiling.",
            "The scent stays in the room and out of the way.",
            "Trim the wick to half a centimetre before you light it.",
        ),
    ),
    "Textiles": Range(
        ("Tea Towel", "Throw", "Cushion Cover", "Napkins", "Apron", "Table Runner", "Bath Towel", "Scarf"),
        ("Washed Linen", "Striped", "Herringbone", "Waffle", "Oatmeal", "Indigo", "Merino", "Checked", "Ochre"),
        ("small", "standard", "large"),
        (800, 2900),
        (
            "Softer with every wash.",
            "Woven on old looms by people who know their moods.",
            "Wash at forty degrees and dry it in the wind.",
        ),
    ),
    "Garden": Range(
        ("Trowel", "Watering Can", "Seed Box", "Pruning Shears", "Plant Labels", "Twine", "Planter", "Bird Feeder"),
        ("Copper", "Steel", "Ash-handled", "Balcony", "Heirloom", "Cottage", "Zinc", "Kitchen-garden", "Oak"),
        ("small", "medium", "large"),
        (690, 3400),
        (
            "Built to be left out in the rain, though it would rather not be.",
            "Well balanced in the hand, even at the end of a long bed.",
            "Spare parts are to be had, and always will be.",
        ),
    ),
    "Kitchen": Range(
        ("Chopping Board", "Wooden Spoon", "Whisk", "Paring Knife", "Skillet", "Rolling Pin", "Colander", "Mortar"),
        ("Olivewood", "Walnut", "Carbon-steel", "Cast-iron", "Maple", "Granite", "Enamel", "Beech", "Cherrywood"),
        ("small", "medium", "large"),
        (900, 4900),
        (
            "The kind of tool that ends up in a will.",
            "Oil it now and then, and it will outlive the kitchen.",
            "Made by a family firm that makes little else.",
        ),
    ),
    "Preserves": Range(
        (
            "Marmalade",
            "Apricot Jam",
            "Plum Butter",
            "Quince Jelly",
            "Chutney",
            "Pickled Onions",
            "Fig Jam",
            "Lemon Curd",
        ),
        ("Farmhouse", "Bitter", "Whisky", "Ginger", "Spiced", "Old-fashioned", "Midsummer", "Vanilla", "Harvest"),
        ("110 g", "220 g", "340 g"),
        (380, 920),
        (
            "More fruit than sugar, and you can tell.",
            "Stirred in copper pans, forty jars at a time.",
            "Lovely with cheese; do not ask which one first.",
        ),
    ),
}

CATEGORIES = tuple(_RANGES)
"""The categories, in the order the shop shows them."""


def searches() -> tuple[str, ...]:
    """Return what visitors may search for: a kind, a variety, or one with the other, such as `smoked oolong`."""
    found = []
    for shelf in _RANGES.values():
        found += [*shelf.kinds, *shelf.varieties]
        found += [f"{variety} {kind}" for kind in shelf.kinds for variety in shelf.varieties]
    return tuple(dict.fromkeys(text.lower().replace("-", " ").replace("'", " ") for text in found))


def generate(count: int, seed: int) -> Iterator[NewProduct]:
    """Yield products with ids 1 to `count`, the categories in turn.

    Args:
        count: how many.
        seed: the same seed gives the same products.
    """
    rng = random.Random(seed)  # noqa: S311 - a catalogue, not a secret
    offers = {category: itertools.cycle(_offers(shelf, rng)) for category, shelf in _RANGES.items()}
    for number, category in zip(range(1, count + 1), itertools.cycle(CATEGORIES), strict=False):
        yield _product(number, category, next(offers[category]), rng)


def _offers(shelf: Range, rng: random.Random) -> list[tuple[str, str, str]]:
    """Every kind in every variety and size, shuffled."""
    offers = list(itertools.product(shelf.kinds, shelf.varieties, shelf.sizes))
    rng.shuffle(offers)
    return offers


def _product(number: int, category: str, offer: tuple[str, str, str], rng: random.Random) -> NewProduct:
    shelf = _RANGES[category]
    kind, variety, size = offer
    scale = (1.0, 1.7, 2.8)[shelf.sizes.index(size)]
    price = int(rng.randint(*shelf.price_cents) * scale) // 10 * 10 + 5
    first, second = rng.sample(shelf.praise, 2)
    article = "An" if variety[0] in "AEIOU" else "A"
    opening = f"{article} {variety.lower()} favourite from our {category.lower()} shelf, {size}."
    return NewProduct(number, f"{variety} {kind}, {size}", category, f"{opening} {first} {second}", price)
