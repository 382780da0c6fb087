from mmseg_siglip.models.backbones import siglip  # noqa: F401
