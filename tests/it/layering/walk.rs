//! What a file names: other modules of the crate, and everything else by its path.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, ExprAsync, ExprAwait, ExprClosure, GenericArgument, ImplItem, Item, ItemExternCrate,
    ItemMod, ItemStatic, ItemUse, Macro, Path, PathArguments, Signature, UseTree, Visibility,
    visit, visit::Visit,
};

use super::source::{SourceFile, is_test_only};

/// What was seen in a file.
#[derive(Default)]
pub(super) struct Seen {
    /// Arrows to modules directly under the root of the crate.
    pub(super) arrows: Vec<Arrow>,
    /// Paths that lead out of the crate, or that are bound by a `use` further up.
    pub(super) paths: Vec<Named>,
    /// Marks of asynchronous code and of globals.
    pub(super) marks: Vec<(usize, Mark)>,
    /// Forms that would hide an arrow from this test.
    pub(super) evasions: Vec<(usize, String)>,
}

/// One module names another.
pub(super) struct Arrow {
    pub(super) line: usize,
    /// The module that is named.
    pub(super) to: String,
    /// Whether the name is handed on with `pub use`.
    pub(super) is_reexport: bool,
}

/// A path as it stands in the file.
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    /// How many generic arguments its last type segment has, if it has any.
    pub(super) arguments: Option<usize>,
}

/// A construct that a synchronous layer does without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mark {
    Async,
    Static,
}

pub(super) fn walk(file: &SourceFile) -> Seen {
    let mut walker = Walker { module_path: file.module_path(), seen: Seen::default() };
    walker.visit_file(&file.content);
    walker.seen
}

struct Walker {
    module_path: Vec<String>,
    seen: Seen,
}

impl Walker {
    /// Notes one path, whether from a `use`, an expression, a type, or a macro.
    fn note(&mut self, span: Span, segments: Vec<String>, how: How) {
        let line = span.start().line;
        let Some(absolute) = self.resolve(&segments) else {
            let arguments = how.arguments;
            self.seen.paths.push(Named { line, segments, arguments });
            return;
        };
        match absolute.first() {
            None => {
                let what = "the root of the crate is named as a whole".to_owned();
                self.seen.evasions.push((line, what));
            }
            Some(name) if name == "*" || name == "self" => {
                self.seen
                    .evasions
                    .push((line, "the root of the crate is imported whole".to_owned()));
            }
            Some(to) => {
                let is_reexport = how.is_reexport;
                self.seen.arrows.push(Arrow { line, to: to.clone(), is_reexport });
            }
        }
    }

    /// The path from the root of the crate; nothing for one that leads elsewhere.
    fn resolve(&self, segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        let (mut base, rest) = match first.as_str() {
            "crate" | "$crate" | OWN_NAME => (Vec::new(), rest),
            "self" => (self.module_path.clone(), rest),
            "super" => (self.module_path.clone(), segments),
            // The root finds its modules without `crate::`.
            _ if self.module_path.is_empty() && super::place(first).is_some() => {
                (Vec::new(), segments)
            }
            _ => return None,
        };
        for segment in rest {
            if segment == "super" {
                base.pop();
            } else {
                base.push(segment.clone());
            }
        }
        Some(base)
    }

    fn note_use(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        match tree {
            UseTree::Path(path) => {
                let mut segments = before.to_vec();
                segments.push(path.ident.to_string());
                self.note_use(&path.tree, &segments, is_reexport);
            }
            UseTree::Group(group) => {
                for one in &group.items {
                    self.note_use(one, before, is_reexport);
                }
            }
            UseTree::Name(name) => self.note_leaf(&name.ident, before, is_reexport),
            UseTree::Rename(rename) => {
                if WATCHED_NAMES.contains(&rename.ident.to_string().as_str()) {
                    let line = rename.ident.span().start().line;
                    let what = format!("`{}` is imported under another name", rename.ident);
                    self.seen.evasions.push((line, what));
                }
                self.note_leaf(&rename.ident, before, is_reexport);
            }
            UseTree::Glob(glob) => {
                let mut segments = before.to_vec();
                segments.push("*".to_owned());
                let span = glob.star_token.spans[0];
                self.note(span, segments, How { is_reexport, arguments: None });
            }
        }
    }

    fn note_leaf(&mut self, ident: &proc_macro2::Ident, before: &[String], is_reexport: bool) {
        let mut segments = before.to_vec();
        if ident != "self" || before.is_empty() {
            segments.push(ident.to_string());
        }
        self.note(ident.span(), segments, How { is_reexport, arguments: None });
    }

    /// Notes the paths among the tokens of a macro's arguments.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut start = Span::call_site();
        let mut colons = 0;
        let mut is_lifetime = false;
        for token in tokens {
            let follows_tick = std::mem::replace(
                &mut is_lifetime,
                matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '\''),
            );
            match &token {
                TokenTree::Ident(ident) => {
                    if matches!(ident.to_string().as_str(), "async" | "await") {
                        self.seen.marks.push((ident.span().start().line, Mark::Async));
                    }
                    if ident == "static" && !follows_tick {
                        self.seen.marks.push((ident.span().start().line, Mark::Static));
                    }
                    if colons != 2 {
                        self.note_token_path(start, &mut path);
                        start = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note_token_path(start, &mut path);
                    colons = 0;
                    self.note_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.note_token_path(start, &mut path);
                    colons = 0;
                }
            }
        }
        self.note_token_path(start, &mut path);
    }

    fn note_token_path(&mut self, start: Span, path: &mut Vec<String>) {
        let segments = std::mem::take(path);
        let stands_for_itself =
            matches!(segments.as_slice(), [one] if one == "self" || one == "crate");
        if !segments.is_empty() && !stands_for_itself {
            self.note(start, segments, How { is_reexport: false, arguments: None });
        }
    }

    fn mark(&mut self, span: Span, mark: Mark) {
        self.seen.marks.push((span.start().line, mark));
    }
}

/// How a path is used.
#[derive(Clone, Copy)]
struct How {
    is_reexport: bool,
    arguments: Option<usize>,
}

impl<'ast> Visit<'ast> for Walker {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test_only(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let is_for_tests = matches!(item, ImplItem::Fn(function) if is_test_only(&function.attrs));
        if !is_for_tests {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
            let line = module.ident.span().start().line;
            let what = "`#[path]` hides where a module belongs".to_owned();
            self.seen.evasions.push((line, what));
        }
        self.module_path.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module_path.pop();
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        let line = item.ident.span().start().line;
        self.seen.evasions.push((line, "`extern crate` gives a crate another name".to_owned()));
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = match &item.vis {
            Visibility::Public(_) => true,
            Visibility::Restricted(restricted) => restricted.path.is_ident("crate"),
            Visibility::Inherited => false,
        };
        self.note_use(&item.tree, &[], is_reexport);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let stands_for_itself =
            matches!(segments.as_slice(), [one] if one == "self" || one == "crate");
        if let Some(last) = path.segments.last().filter(|_| !stands_for_itself) {
            let arguments = match &last.arguments {
                PathArguments::AngleBracketed(list) => {
                    let is_type = |argument: &&GenericArgument| {
                        !matches!(argument, GenericArgument::Lifetime(_))
                    };
                    Some(list.args.iter().filter(is_type).count())
                }
                PathArguments::None | PathArguments::Parenthesized(_) => None,
            };
            self.note(last.ident.span(), segments, How { is_reexport: false, arguments });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        if call.path.is_ident("include") {
            let line = call.path.segments[0].ident.span().start().line;
            self.seen.evasions.push((line, "`include!` hides what a module names".to_owned()));
        }
        visit::visit_macro(self, call);
        self.note_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {
        // Documentation and derives name no module of ours.
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {
        // `pub(super)` and `pub(in path)` say who may look in, not whom the module knows.
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        if signature.asyncness.is_some() {
            self.mark(signature.ident.span(), Mark::Async);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast ExprAsync) {
        self.mark(block.async_token.span, Mark::Async);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, expression: &'ast ExprAwait) {
        self.mark(expression.await_token.span, Mark::Async);
        visit::visit_expr_await(self, expression);
    }

    fn visit_expr_closure(&mut self, closure: &'ast ExprClosure) {
        if let Some(token) = closure.asyncness {
            self.mark(token.span, Mark::Async);
        }
        visit::visit_expr_closure(self, closure);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.mark(item.ident.span(), Mark::Static);
        visit::visit_item_static(self, item);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Verbatim(_) | _ => &[],
    }
}

/// The name under which the programs and tests know the crate.
const OWN_NAME: &str = "mqttzoo";

/// Names that the bans look for: an alias would hide them.
const WATCHED_NAMES: [&str; 12] = [
    "crate",
    "super",
    "std",
    "core",
    "tokio",
    "HashMap",
    "HashSet",
    "RandomState",
    "Instant",
    "SystemTime",
    "thread",
    "time",
];
