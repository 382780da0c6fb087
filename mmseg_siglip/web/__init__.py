"""A page and an HTTP API over `mmseg_siglip.api.SYSTEMS`, for visitors whom nobody vouches for."""
