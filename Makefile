# make bench: install and print a comparison on the embedded data; make test: install and test; make speed: ratios;
# make gpu: what a GPU gives.
PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/.installed

# the detection extra brings OpenCV twice, into one folder; the build that needs no display libraries has to win
HEADLESS = "opencv-python-headless==$$($(RUN) -c "from importlib.metadata import version; \
	print(version('opencv-python-headless'))")"

export OMP_WAIT_POLICY ?= passive

.PHONY: bench test speed gpu

bench: $(READY)
	$(RUN) -m aiqvit.bench --task imagenet --method all --data mini --model mini_vit,mini_swin --bits 3/3,4/4

test: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

speed: $(READY)
	$(RUN) -m aiqvit.speed

gpu: $(READY)
	$(RUN) -m aiqvit.speed --gpu

$(READY): pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --editable '.[all]'
	$(RUN) -m pip install --quiet --force-reinstall --no-deps $(HEADLESS)
	touch $@
