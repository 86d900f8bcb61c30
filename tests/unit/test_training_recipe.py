"""Recipes: strict, complete, read back as written."""

from __future__ import annotations

import json

import pytest
from toy_method import Toy

from palette_bench.baselines.training.recipe import Recipe, inherited, read_recipe, to_toml
from palette_bench.core.errors import RecordError, UsageError

TEXT = Toy().text


def resolved(text: str = TEXT, task: str = "jpeg") -> Recipe:
    return read_recipe(Recipe, text).resolved("toy", task, "host")


def test_a_resolved_recipe_reads_back_as_itself_and_leaves_nothing_open() -> None:
    recipe = resolved()
    assert read_recipe(Recipe, to_toml(recipe)) == recipe
    assert (recipe.task, recipe.tasks, recipe.speed.noise) == ("jpeg", ("jpeg",), "host")
    assert recipe.resolved("toy", "jpeg", "device") == recipe  # what is said stays said


def test_multi_is_the_papers_three_tasks_unless_the_recipe_lists_others() -> None:
    assert resolved(task="multi").tasks == ("colorization", "inpainting", "jpeg")
    listed = TEXT.replace('method = "toy"', 'method = "toy"\ntasks = ["jpeg", "uncropping"]')
    assert resolved(listed, "multi").tasks == ("jpeg", "uncropping")


def test_all_problems_are_named_at_once_with_neighbours() -> None:
    text = TEXT.replace("batch = 8\n", 'batsh = "8"\n', 1).replace("palette-toy", "palette-toi")
    text = text.replace("ema_decay = 0.9", "ema_decay = 1.5").replace("[speed]", "[sped]")
    with pytest.raises(RecordError) as caught:
        read_recipe(Recipe, text)
    found = {(p.code, p.where) for p in caught.value.problems}
    assert found == {
        ("PB403", "recipe.toml: network.preset"),
        ("PB403", "recipe.toml: training.batch"),
        ("PB402", "recipe.toml: training.batsh"),
        ("PB403", "recipe.toml: training.ema_decay"),
        ("PB402", "recipe.toml: sped"),
    }
    said = str(caught.value)
    assert all(f"did you mean {word}" in said for word in ("palette-toy", "batch", "speed"))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("[network]", "[network", "PB401"),
        ("learning_rate = 1e-2", "learning_rate = nan", "PB401"),
        ("batch = 8", "batch = 8.0", "PB403"),
        ("steps = 6", "steps = 0", "PB403"),
        ("recipe/1.0", "recipe/9.0", "PB411"),
        ('preset = "palette-toy"', 'preset = "palette-toy"\nwidth = 33', "PB403"),
    ],
)
def test_a_malformed_recipe_is_refused_with_its_code(old: str, new: str, code: str) -> None:
    with pytest.raises(RecordError, match=code):
        read_recipe(Recipe, TEXT.replace(old, new, 1))


def test_another_methods_or_tasks_recipe_is_refused() -> None:
    recipe = read_recipe(Recipe, TEXT.replace('method = "toy"', 'method = "toy"\ntask = "jpeg"'))
    with pytest.raises(UsageError, match="--task jpeg"):
        recipe.resolved("toy", "inpainting", "host")
    with pytest.raises(RecordError, match="method"):
        recipe.resolved("palette", "jpeg", "host")
    two = read_recipe(
        Recipe, TEXT.replace('method = "toy"', 'method = "toy"\ntasks = ["jpeg", "inpainting"]')
    )
    with pytest.raises(RecordError, match="tasks"):
        two.resolved("toy", "jpeg", "host")


def test_the_network_departs_from_its_preset_where_told() -> None:
    text = TEXT.replace(
        'preset = "palette-toy"', 'preset = "palette-toy"\nwidth = 64\nattention_kind = "local"'
    )
    spec = read_recipe(Recipe, text).network.spec
    assert (spec.side, spec.width, spec.attention_kind) == (16, 64, "local")


def test_bookkeeping_and_the_number_of_steps_are_no_choices_that_move_a_weight() -> None:
    other = TEXT.replace("steps = 6", "steps = 600").replace("save_every = 2", "save_every = 5")
    assert resolved(other).choices() == resolved().choices()
    assert resolved(TEXT.replace("1e-2", "1e-3")).choices() != resolved().choices()


def test_a_cooldown_makes_the_number_of_steps_a_choice() -> None:
    cooling = Toy(cooldown_steps=1).text
    longer = cooling.replace("\nsteps = 6", "\nsteps = 8")
    assert "cooldown_steps" not in json.dumps(resolved().choices())
    assert resolved(cooling).choices() != resolved().choices()
    assert resolved(longer).choices() != resolved(cooling).choices()


KNOWN = {"parent": TEXT, "child": 'extends = "parent"\n', "loop": 'extends = "loop"\n'}


def test_a_recipe_changes_the_keys_of_the_one_it_extends() -> None:
    child = '# half as fast\nextends = "child"\n[training]\nlearning_rate = 0.5\n'
    text = inherited(child, KNOWN, "own.toml")
    recipe, parent = read_recipe(Recipe, text), read_recipe(Recipe, TEXT)
    assert text.startswith("# half as fast\n")
    assert recipe.training == parent.training.model_copy(update={"learning_rate": 0.5})
    assert recipe.model_copy(update={"training": parent.training}) == parent
    assert inherited(TEXT, KNOWN, "parent") == TEXT


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        ('"parnet"', "did you mean parent"),
        ('"loop"', "remove one"),
        ('["parent"]', "another recipe"),
        ("3", "3"),
    ],
)
def test_a_parent_that_cannot_be_extended_is_refused(parent: str, told: str) -> None:
    with pytest.raises(RecordError, match=rf"PB403[\s\S]*extends[\s\S]*{told}"):
        inherited(f"extends = {parent}\n", KNOWN, "own.toml")
