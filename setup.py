"""Packaging metadata. Tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (HERE / "tunnel/__init__.py").read_text(), re.MULTILINE
)
assert VERSION, "tunnel/__init__.py states no version"

setup(
    name="punchtun",
    version=VERSION.group(1),
    description="Reach machines behind NAT and CGNAT by a tunnel IP, over punched UDP paths",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["tunnel", "tunnel.*"]),
    package_data={"tunnel": ["py.typed", "drivers/web_page.html", "units/*"]},
    data_files=[("share/man/man1", ["docs/man/punchtun.1"])],
    install_requires=[
        "gevent>=24.2",
        "python-pytun>=2.4",
        "pynacl>=1.6",
        "click>=8.1",
        "pyroute2>=0.7.12",
        "segno>=1.6",
        "wsproto>=1.2",
        "prometheus-client>=0.16",
        # It has no wheels for newer ones yet, and nobody should need a compiler for it.
        'miniupnpc>=2.2; python_version < "3.14"',
        'tomli>=2.0; python_version < "3.11"',
    ],
    extras_require={
        "dev": [
            "coverage>=7.4",
            "hypothesis>=6.100",
            "mypy>=1.11",
            "pytest>=8.0",
            "ruff>=0.6",
        ],
        # Only for `python -m tests.fuzz --coverage`; it has wheels for Linux.
        "fuzz": ["atheris>=3.0"],
    },
    entry_points={"console_scripts": ["punchtun = tunnel.cli:main"]},
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: System :: Networking",
    ],
)
