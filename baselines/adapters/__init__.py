"""Adapters to outside tools: file layouts, one entry each, and diffusers pipelines that run in process."""

from __future__ import annotations

from .pipelines import Diffusers
from .tool import Tool

folder = Tool(
    slug="outside-tool",
    title="an outside tool",
    image="{id}.png",
    mask="{id}_mask.png",
    result="{id}.png",
    only_holes=False,
)
# bin/predict.py: *mask*.png beside the images; any level above 0 is hole; a result has its mask's name
lama = Tool(
    slug="lama",
    title="LaMa",
    code="https://github.com/advimman/lama",
    image="{id}.png",
    mask="{id}_mask001.png",
    result="{id}_mask001.png",
)
# guided_diffusion/image_datasets.py: two folders with equal file names, sorted; masks mark known pixels
repaint = Tool(
    slug="repaint",
    title="RePaint",
    code="https://github.com/andreas128/RePaint",
    image="gts/{id}.png",
    mask="gt_keep_masks/{id}.png",
    hole=0,
    result="inpainted/{id}.png",
)
# scripts/gen_single_image_diffusion.py: --img_in and --mask_in; the mask holds class numbers, 1 = hole
joligen = Tool(
    slug="joligen",
    title="joliGEN",
    code="https://github.com/jolibrain/joliGEN",
    image="{id}.png",
    mask="{id}_mask.png",
    hole=1,
    result="{id}_generated.png",
)
# data/dataset.py: mask_mode "file" is an empty branch, so the tool reads no mask files: no `image`, no `mask`
janspiry = Tool(
    slug="janspiry",
    title="Palette-Image-to-Image-Diffusion-Models",
    code="https://github.com/Janspiry/Palette-Image-to-Image-Diffusion-Models",
    result="Out_{id}.png",
    only_holes=False,
)
diffusers = Diffusers()
