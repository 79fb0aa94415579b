"""Every field of the settings classes is an option of the commands, with a comment and a rule."""
import inspect
from dataclasses import fields

import pytest

from ser_nb.features import FeatureSettings, ser_features
from ser_nb.lib.settings import Rule, comments
from ser_nb.model import ModelSettings
from ser_nb.more.judge import ser_run
from ser_nb.more.training import ser_train
from ser_nb.train import TrainSettings

NETWORK, EVERY = (ModelSettings, TrainSettings), (FeatureSettings, ModelSettings, TrainSettings)


@pytest.mark.parametrize("command, classes", [(ser_features, (FeatureSettings,)), (ser_train, NETWORK), (ser_run, EVERY)])
def test_no_setting_without_an_option(command, classes):
    options = inspect.signature(command).parameters
    assert not [f.name for cls in classes for f in fields(cls) if f.name not in options]


@pytest.mark.parametrize("cls", EVERY)
def test_fields_say_what_they_may_be(cls):
    assert not [f.name for f in fields(cls) if not isinstance(f.metadata.get("rule"), Rule)]
    assert not [f.name for f in fields(cls) if not f.metadata["rule"].allows(f.default)]
    assert not [f.name for f in fields(cls) if not comments(cls).get(f.name)]


@pytest.mark.parametrize("cls", EVERY)
def test_json_and_back(cls):
    assert cls.from_json(cls().to_json()) == cls()
    assert not set(cls.LATER) & set(cls().values())
