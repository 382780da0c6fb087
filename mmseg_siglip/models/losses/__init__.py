from mmseg_siglip.models.losses.sigmoid_loss import SigmoidLoss

__all__ = ['SigmoidLoss']
