"""Names of images, as the engines' own grammar has them."""

from __future__ import annotations

import pytest

from vmport_converters.container.reference import parse_image_name
from vmport_formats.errors import UsageError


@pytest.mark.parametrize(
    ("text", "shown", "canonical", "tag"),
    [
        ("web", "web:latest", "docker.io/library/web", "latest"),
        ("web:1.0", "web:1.0", "docker.io/library/web", "1.0"),
        ("team/web", "team/web:latest", "docker.io/team/web", "latest"),
        ("localhost/web", "localhost/web:latest", "localhost/web", "latest"),
        ("reg.eu:5000/a/b_c:T-1", "reg.eu:5000/a/b_c:T-1", "reg.eu:5000/a/b_c", "T-1"),
        ("REG.example/web", "REG.example/web:latest", "REG.example/web", "latest"),
    ],
)  # fmt: skip
def test_names(text: str, shown: str, canonical: str, tag: str) -> None:
    name = parse_image_name(text)
    assert (str(name), name.canonical, name.tag) == (shown, canonical, tag)


@pytest.mark.parametrize(
    "text",
    ["", "Web", "web:", "web:a:b", "/web", "web/", "a//b", "web@sha256:00", "web:-x", "we b",
     "web\n", "../web", "Team/web", "a" * 256, "web:" + "t" * 129],
)  # fmt: skip
def test_what_no_engine_takes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_image_name(text)
