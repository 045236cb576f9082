"""fastmlp's MLPClassifier and MLPRegressor beside those of scikit-learn: ``python -m bench estimators``."""
