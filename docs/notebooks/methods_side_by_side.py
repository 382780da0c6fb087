# %% [markdown]
# # Title

# %%
1 + 1
