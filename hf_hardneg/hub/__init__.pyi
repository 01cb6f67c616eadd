from hf_hardneg.hub.card import mined_dataset_card as mined_dataset_card
from hf_hardneg.hub.push import push_mined_dataset as push_mined_dataset
from hf_hardneg.hub.reproduction import Reproduction as Reproduction
from hf_hardneg.hub.reproduction import reproduce as reproduce
