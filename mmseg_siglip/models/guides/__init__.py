from mmseg_siglip.models.guides.frozen import Frozen, all_weights

__all__ = ['Frozen', 'all_weights']
