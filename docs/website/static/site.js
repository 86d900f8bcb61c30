// The menu is long: bring the entry of this page into sight.
const menu = document.querySelector(".sidebar-scroll");
const here = document.querySelector(".sidebar-tree .current-page");
if (menu && here) {
  menu.scrollTop += here.getBoundingClientRect().top - menu.getBoundingClientRect().top - menu.clientHeight / 3;
}
