"""The gender stage, as the data's labels name it."""

from faces.labels import GENDERS
from stages.stage import Classifier

GENDER = Classifier("gender", "gender", GENDERS)
