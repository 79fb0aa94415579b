import runpy
from configparser import ConfigParser
from pathlib import Path

import setuptools
from setuptools.command.build_py import build_py

cfg = ConfigParser(delimiters=["="])
cfg.read("settings.ini", encoding="utf-8")
cfg = cfg["DEFAULT"]


class WithStubs(build_py):
    "Put beside modules whose classes get their methods cell by cell what type checkers have to know of them."

    def run(self):
        super().run()
        code = runpy.run_path("tools/types_check.py")
        for path, text in code["stubs"](Path("ser_nb")).items():
            target = Path(self.build_lib) / "ser_nb" / path
            if target.parent.is_dir() and not self.editable_mode:
                target.write_text(text, encoding="utf-8")


def words(key):
    return cfg.get(key, "").split()


setuptools.setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    license="Apache-2.0",
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").exists() else "",
    long_description_content_type="text/markdown",
    url=cfg["git_url"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    keywords=cfg["keywords"],
    packages=setuptools.find_packages(include=["ser_nb*"]),
    package_data={"ser_nb": ["corpora/*.toml", "encoder/*.npz", "hashes/*.csv", "page/*", "py.typed", "recogniser/*"]},
    cmdclass={"build_py": WithStubs},
    python_requires=f">={cfg['min_python']}",
    install_requires=words("requirements"),
    extras_require={
        key.removesuffix("_requirements"): words(key) for key in cfg if key.endswith("_requirements")
    },
    entry_points={"console_scripts": words("console_scripts"), "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3",
    ],
    zip_safe=False,
)
