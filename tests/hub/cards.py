"""The rendered examples in `hub_cards/`; `python -m tests.hub.cards` writes them anew."""

from dataclasses import replace
from pathlib import Path

from datasets import Dataset, DatasetDict

from hf_hardneg import mine, recipe_of, to_format
from hf_hardneg.hub import mined_dataset_card
from tests.worlds import shared_words

FOLDER = Path(__file__).parents[2] / "hub_cards"
VERSIONS = {"bm25s": "0.3.16", "datasets": "5.2.0", "hf_hardneg": "0.1.0", "numpy": "2.4.6", "python": "3.11.7"}

DOCUMENTS = {
    "moon": "The Moon is the only natural satellite of the Earth and causes most of the tides in its oceans.",
    "tides": "Tides rise and fall because the gravity of the Moon and of the Sun pulls at the water of the oceans.",
    "eclipse": "A solar eclipse happens when the Moon passes between the Earth and the Sun and covers the Sun.",
    "lunar": "A lunar eclipse happens when the Moon moves into the shadow of the Earth, and it can look red.",
    "mars": "Mars looks red because iron in its dust has rusted; it has two small moons, Phobos and Deimos.",
    "phobos": "Phobos, the larger of the two moons of Mars, rises in the west and sets in the east twice a day.",
    "venus": "Venus is the hottest planet: its thick air of carbon dioxide keeps the heat of the Sun.",
    "mercury": "Mercury is the smallest planet and the nearest to the Sun; a year on it lasts 88 days.",
    "jupiter": "Jupiter is the largest planet; its Great Red Spot is a storm wider than the Earth.",
    "io": "Io, a moon of Jupiter, has more volcanoes than any other body, since tides of Jupiter heat it.",
    "europa": "Europa, a moon of Jupiter, has an ocean of water under a shell of ice, where life may be.",
    "saturn": "The rings of Saturn are made of pieces of ice and rock, most of them smaller than a house.",
    "titan": "Titan, the largest moon of Saturn, has thick air, and lakes of methane instead of water.",
    "enceladus": "Enceladus, a moon of Saturn, throws water of an ocean under its ice out into space.",
    "uranus": "Uranus lies on its side, so that each of its poles has 42 years of day and 42 years of night.",
    "neptune": "Neptune, the planet farthest from the Sun, has the fastest winds of all planets.",
    "pluto": "Pluto was called a planet until 2006, when a dwarf planet was defined; its largest moon is Charon.",
    "ceres": "Ceres is a dwarf planet in the belt of asteroids between Mars and Jupiter.",
    "comet": "A comet is ice and dust; near the Sun the ice turns to gas, and gives it a tail.",
    "meteor": "A meteor is the light of a piece of rock or dust that burns in the air of the Earth.",
    "sun": "The Sun is a star; in its core hydrogen turns into helium, which gives the energy of its light.",
    "star": "A star shines because hydrogen turns into helium in its core, until the hydrogen is used up.",
    "year": "A year is the time that a planet needs for one path around the Sun; for the Earth 365 days.",
    "day": "A day on Venus is longer than its year, and the Sun rises in the west there.",
}
QUERIES = {
    "train": {
        "what causes the tides of the oceans": ["moon", "tides"],
        "why does Mars look red": ["mars"],
        "which moon has an ocean of water under its ice": ["europa", "enceladus"],
        "which planet is the largest": ["jupiter"],
        "why does a star shine": ["star", "sun"],
    },
    "test": {
        "when does the Moon cover the Sun": ["eclipse"],
        "how long is a year on Mercury": ["mercury"],
        "what are the rings of Saturn made of": ["saturn"],
    },
}


def data():
    """Pairs in two splits, and the corpus."""
    pairs = {
        split: Dataset.from_dict({"query": list(queries), "positive_ids": list(queries.values())})
        for split, queries in QUERIES.items()
    }
    corpus = Dataset.from_dict({"_id": list(DOCUMENTS), "text": list(DOCUMENTS.values())})
    return DatasetDict(pairs), corpus


def rendered(cache):
    """Path in the folder to bytes, of every example."""
    pairs, corpus = data()
    made = {
        "bm25": (mine(pairs, corpus, "bm25", num_negatives=3, cache_dir=cache), ["triplet", "n-tuple"]),
        "denoised": (
            mine(pairs, corpus, "denoised", num_negatives=3, cross_encoder=shared_words, cache_dir=cache),
            ["labeled-list"],
        ),
    }
    found = {}
    for name, (mined, layouts) in made.items():
        card = mined_dataset_card(
            mined,
            repo_id=f"hf-hardneg/astronomy-{name}",
            configs={"list": mined} | {layout: to_format(mined, layout) for layout in layouts} | {"corpus": corpus},
            recipe=replace(recipe_of(mined), versions=VERSIONS),
            license="cc0-1.0",
            language=["en"],
            pretty_name=f"Astronomy, {name}",
        )
        found[f"{name}/README.md"] = str(card).encode()
        found |= {f"{name}/{path}": content for path, content in card.files.items()}
    return found


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for path, content in rendered(folder).items():
            (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
            (FOLDER / path).write_bytes(content)
