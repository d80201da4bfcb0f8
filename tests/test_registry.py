import pytest

from pipeline.registry import Registry, UnknownName


def test_a_registered_class_is_found_by_its_name():
    registry: Registry[type] = Registry("method")

    @registry.register("cace_net")
    class CaceNet:
        pass

    assert registry.get("cace_net") is CaceNet
    assert registry.names() == ["cace_net"]


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known():
    registry: Registry[type] = Registry("method")
    registry.register("cace_net")(int)
    registry.register("avel")(str)
    with pytest.raises(UnknownName, match=r"'cacenet'.*'cace_net'.*avel, cace_net"):
        registry.get("cacenet")


def test_a_name_is_given_once():
    registry: Registry[type] = Registry("method")
    registry.register("avel")(int)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("avel")(str)
