import json

import pytest

from edge.errors import InputError
from edge.recipe import Compression, Model, Objectives, Recipe, Training, read_recipe, recipe_from_json

OTHER = Recipe(
    data="lfmc",
    modalities=("optical", "sar", "soil"),
    method="released",
    seed=7,
    fold=2,
    max_drop=0.02,
    model=Model(width=8, layer_norm=True),
    objectives=Objectives(con=0.0, temperature=0.5),
    training=Training(epochs=3, batch=16),
    compression=Compression(epochs=0),
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.json"):
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path

    return write


@pytest.mark.parametrize("recipe", [Recipe(), OTHER], ids=["default", "other"])
def test_json_and_back_is_the_same_recipe(write, recipe):
    assert recipe_from_json(recipe.to_json()) == recipe
    assert read_recipe(write(recipe.to_json())) == recipe


def test_an_empty_recipe_is_the_default(write):
    assert read_recipe(write({})) == Recipe()
    assert read_recipe(write("", "recipe.toml")) == Recipe()


def test_toml_says_the_same_as_json(write):
    toml = """
        data = "lfmc"
        modalities = ["optical", "sar"]
        [model]
        layer_norm = true
        dropout = 0
        [training]
        batch = 16
    """
    expected = {
        "data": "lfmc",
        "modalities": ["optical", "sar"],
        "model": {"layer_norm": True, "dropout": 0},
        "training": {"batch": 16},
    }
    recipe = read_recipe(write(toml, "recipe.toml"))
    assert recipe == read_recipe(write(expected))
    assert recipe.modalities == ("optical", "sar")
    assert recipe.model == Model(layer_norm=True, dropout=0.0)
    assert isinstance(recipe.model.dropout, float)
    assert recipe.training == Training(batch=16)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modality": []}, "recipe.json: modality is not a known key; did you mean 'modalities'?"),
        ({"training": {"epoch": 3}}, "recipe.json: training.epoch is not a known key; did you mean 'epochs'?"),
        ({"patience": 3}, "patience is not a known key; did you mean 'training.patience'?"),
        ({"epochs": 3}, "did you mean 'training.epochs' or 'compression.epochs'?"),
        ({"zzz": 1}, "zzz is not a known key; known keys: data, modalities, method"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(write, values, message):
    with pytest.raises(InputError) as caught:
        read_recipe(write(values))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": "1"}, "seed is '1'; expected int"),
        ({"seed": True}, "seed is True; expected int"),
        ({"seed": 1.0}, "seed is 1.0; expected int"),
        ({"max_drop": "1 %"}, "max_drop is '1 %'; expected float"),
        ({"model": {"layer_norm": 1}}, "model.layer_norm is 1; expected bool"),
        ({"training": {"batch": 1.5}}, "training.batch is 1.5; expected int or null"),
        ({"modalities": "optical"}, "modalities is 'optical'; expected a list of names"),
        ({"modalities": [1]}, "modalities is [1]; expected a list of names"),
        ({"model": 3}, "model expected a table of keys, got 3"),
        ([], "expected a table of keys, got []"),
        ('{"training": {"lr": NaN}}', "training.lr is nan; expected a finite number"),
        ('{"objectives": {"con": Infinity}}', "objectives.con is inf; expected a finite number"),
    ],
)
def test_a_wrong_type_names_the_key_and_what_is_expected(write, values, message):
    with pytest.raises(InputError) as caught:
        read_recipe(write(values))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "mdco"}, "method 'mdco' is not known; use one of taught, mdico, released"),
        ({"training": {"epochs": 0}}, "training.epochs is 0; it must be above 0"),
        ({"protocol": "site"}, "protocol 'site' is not known; use one of grouped, random, fixed, published"),
        ({"folds": 0}, "folds is 0; it must be above 0"),
        ({"training": {"lr": -1}}, "training.lr is -1.0; it must be above 0"),
        ({"training": {"batch": 1}}, "training.batch is 1; batch normalisation needs at least 2"),
        ({"training": {"min_delta": -0.1}}, "training.min_delta is -0.1; it must be 0 or more"),
        ({"objectives": {"mod": -1}}, "objectives.mod is -1.0; it must be 0 or more"),
        (
            {"objectives": {"main": 0, "aux": 0, "con": 0, "mod": 0}},
            "objectives: main, aux, con, mod are all 0, which trains nothing; give one a weight",
        ),
        ({"objectives": {"temperature": 0}}, "objectives.temperature is 0.0; it must be above 0"),
        ({"compression": {"epochs": -1}}, "compression.epochs is -1; it must be 0 or more"),
        ({"model": {"embedding": 7}}, "model.embedding is 7; it is split in two halves and must be even"),
        ({"model": {"kernel": 4}}, "model.kernel is 4; it must be odd"),
        ({"model": {"dropout": 1}}, "model.dropout is 1.0; it must be in [0, 1)"),
        ({"seed": -1}, "seed is -1; it must be from 0 to 4294967295"),
    ],
)
def test_a_value_that_cannot_work_is_refused(write, values, message):
    with pytest.raises(InputError) as caught:
        read_recipe(write(values))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("name", "text"),
    [("r.json", "{"), ("r.toml", "data = "), ("r.json", "\xff"), ("r.toml", "[[")],
)
def test_a_file_that_cannot_be_parsed_is_refused(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"the recipe .*{name} cannot be read"):
        read_recipe(tmp_path / name)


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(InputError, match="is not a file"):
            read_recipe(path)
